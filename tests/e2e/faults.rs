//! Faults between clusters: each acts, and ends by itself, whatever becomes of the command that asked for it.

use crate::environment::{E2E, Kindmesh, docker};
use crate::faulting::{NODES, active, eventually, fault};

/// Returns what is left of faults on the nodes: rules, queues, files, programs.
fn left() -> String {
    let script = "iptables -t mangle -S | grep FAULT; tc qdisc show dev eth0 | grep htb; ls /etc/kindmesh/faults 2>/dev/null; \
                  systemctl list-units --plain --no-legend 'kindmesh-delay@*'; true";
    NODES.map(|node| docker(&["exec", node, "sh", "-c", script])).concat()
}

/// Returns how long a call took, in milliseconds.
fn round_trip(kindmesh: &Kindmesh) -> u64 {
    let call = kindmesh.json_lines(&["call"]).remove(0);
    assert_eq!(call["statusCode"], 200, "{call}");
    call["roundTripTimeMillis"].as_u64().expect("a number")
}

fn producer_address(kindmesh: &Kindmesh) -> String {
    let arguments =
        ["-n", "sample", "get", "pods", "-l", "app=sample-producer", "-o", "jsonpath={.items[0].status.podIP}"];
    kindmesh.kubectl("cluster2", &arguments).stdout
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn faults_of_the_network_act_and_end() {
    let kindmesh = E2E.up();
    let pod = producer_address(kindmesh);
    assert_eq!(left(), "");

    // Faults end by their timers, without another command.
    fault(kindmesh, &["loss", "1%", "--for", "5s"]);
    fault(kindmesh, &["delay", "20ms", "--for", "5s"]);
    eventually("the faults to end", || left().is_empty());

    fault(kindmesh, &["cut", "--for", "10m"]);
    let call = kindmesh.json_lines(&["call"]).remove(0);
    assert_ne!(call["statusCode"], 200, "{call}");
    let why = kindmesh.run(&["why", "cluster1", "http://sample-producer:8080"]).stdout;
    assert!(why.contains("a fault that you asked for: link cut between cluster1 and cluster2"), "{why}");
    let status = kindmesh.run(&["status"]);
    assert!(status.stdout.contains("kindmesh fault clear"), "{status:?}");
    let up = kindmesh.run(&["up"]);
    assert!(up.code == 1 && up.stderr.contains("active faults"), "{up:?}");
    // Control planes stay connected.
    let livez = format!("curl -sk -m 5 https://{}:6443/livez", NODES[1]);
    assert_eq!(docker(&["exec", NODES[0], "sh", "-c", &livez]), "ok");
    fault(kindmesh, &["clear"]);

    // Loss: of 1000 packets, about 300 are lost. Five standard deviations are 72.
    fault(kindmesh, &["loss", "20%", "--between", "cluster2,cluster1"]);
    fault(kindmesh, &["loss", "30%", "--between", "cluster1,cluster2"]);
    assert_eq!(active(kindmesh), (1, 0));
    let send = format!("for i in {{1..1000}}; do echo >/dev/udp/{pod}/9; done 2>/dev/null");
    docker(&["exec", NODES[0], "bash", "-c", &format!("iptables -t mangle -Z KINDMESH-FAULT; {send}; true")]);
    let counted = docker(&["exec", NODES[0], "iptables", "-t", "mangle", "-nvxL", "KINDMESH-FAULT"]);
    let lost = counted.lines().nth(2).and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
    assert!(lost.is_some_and(|lost| (228..372).contains(&lost)), "{counted}");

    // Bandwidth: packets above the rate have to wait.
    fault(kindmesh, &["clear"]);
    fault(kindmesh, &["bandwidth", "1mbit"]);
    let send = format!(
        "head -c 250000 /dev/zero | curl -s -o /dev/null -w '%{{http_code}}' --data-binary @- http://{pod}:8080/producer/messages"
    );
    // The status of a body that is not JSON: all of it arrived.
    assert_eq!(docker(&["exec", NODES[0], "sh", "-c", &send]), "400");
    let classes = docker(&["exec", NODES[0], "tc", "-s", "class", "show", "dev", "eth0"]);
    let held_back =
        classes.split("overlimits ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    assert!(classes.contains("rate 1Mbit") && held_back.is_some_and(|packets| packets > 0), "{classes}");
    // A delay, in each direction, besides the bandwidth: with netem or without it.
    fault(kindmesh, &["delay", "300ms"]);
    fault(kindmesh, &["jitter", "20ms"]);
    assert_eq!(active(kindmesh), (3, 0));
    assert!(round_trip(kindmesh) >= 560);
    // Connections from the node to pods of the peer have it in one direction.
    let connect = format!("curl -s -o /dev/null -w '%{{time_connect}}' http://{pod}:8080");
    let seconds = docker(&["exec", NODES[0], "sh", "-c", &connect]);
    assert!(seconds.parse::<f64>().is_ok_and(|seconds| seconds >= 0.28), "{seconds}");
    fault(kindmesh, &["clear"]);
    assert_eq!(left(), "");
    eventually("calls without a delay", || round_trip(kindmesh) < 560);

    // Partition: the peer's API server cannot be reached, either.
    fault(kindmesh, &["partition"]);
    let reach = format!("curl -sk -m 1 -o /dev/null https://{}:6443/livez; echo $?", NODES[1]);
    assert_eq!(docker(&["exec", NODES[0], "sh", "-c", &reach]), "28");
    fault(kindmesh, &["clear"]);
    assert_eq!(docker(&["exec", NODES[0], "sh", "-c", &reach]), "0");
    assert_eq!(active(kindmesh), (0, 0));
}
