// The shop on two clusters, with go test and kubectl. They need the variables of `kindmesh env`:
//
//	kindmesh up && eval "$(kindmesh env)" && (cd examples/shop/go && go test ./...)
package shop

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const manifests = "../manifests"

// run runs a command that must succeed, and returns its output.
func run(name string, arguments ...string) (string, error) {
	command := exec.Command(name, arguments...)
	var said, trouble strings.Builder
	command.Stdout, command.Stderr = &said, &trouble
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", command, err, said.String(), trouble.String())
	}
	return said.String(), nil
}

// kubectl runs kubectl on a cluster, which is 1 or 2.
func kubectl(t *testing.T, cluster int, arguments ...string) string {
	t.Helper()
	context := os.Getenv(fmt.Sprintf("CTX_CLUSTER%d", cluster))
	said, err := run("kubectl", append([]string{"--context", context}, arguments...)...)
	if err != nil {
		t.Fatal(err)
	}
	return said
}

func TestMain(m *testing.M) {
	if _, err := run("kindmesh", "deploy", manifests); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if _, err := run("kindmesh", "deploy", manifests, "--delete"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func TestACheckoutAsksForOrdersInTheOtherCluster(t *testing.T) {
	// Through the cluster's API server: no port of the host is needed.
	said := kubectl(t, 1, "get", "--raw", "/api/v1/namespaces/shop/services/checkout:8080/proxy/checkout")
	var answer struct {
		Orders struct{ OnOrder int }
	}
	if err := json.Unmarshal([]byte(said), &answer); err != nil || answer.Orders.OnOrder != 3 {
		t.Fatalf("%s: %v", said, err)
	}
}

func TestOrdersRunInTheOtherClusterAlone(t *testing.T) {
	selected := []string{"-n", "shop", "get", "pods", "-l", "app=orders", "-o", "name"}
	if here := kubectl(t, 1, selected...); here != "" {
		t.Errorf("cluster 1 has %s", here)
	}
	if there := kubectl(t, 2, selected...); !strings.Contains(there, "pod/orders") {
		t.Errorf("cluster 2 has %q", there)
	}
}
