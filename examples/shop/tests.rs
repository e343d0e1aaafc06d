//! Tests of the shop on two clusters, as in a package that uses kindmesh. They require a container engine:
//!
//!     cargo test --test example -- --ignored

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use kindmesh::testing::{Mesh, Namespace, Poll, Request};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shop/manifests");
const ORDERS: &str = include_str!("manifests/orders.yaml");

/// The environment that all tests share, with the shop's image in its engine.
async fn mesh() -> anyhow::Result<Mesh> {
    let mesh = Mesh::shared("shop").await?;
    mesh.image("shop:dev", program()?).await?;
    Ok(mesh)
}

/// The shop's program. In another package, it is `env!("CARGO_BIN_EXE_shop")`.
fn program() -> anyhow::Result<PathBuf> {
    let tests = std::env::current_exe()?;
    let program = tests.ancestors().nth(2).map(|target| target.join("examples/shop")).unwrap_or_default();
    ensure!(program.exists(), "{} is not there: cargo build --examples", program.display());
    Ok(program)
}

#[tokio::test]
#[ignore = "needs a container engine and minutes"]
async fn a_checkout_asks_for_orders_in_the_other_cluster() -> anyhow::Result<()> {
    mesh()
        .await?
        .test(async |ns| {
            let deployed = ns.deploy(MANIFESTS).await?;
            let stub =
                deployed.stubs.iter().find(|stub| stub.object.name == "orders").expect("what checkout calls");
            assert_eq!(stub.served_in, ["cluster2"]);
            let answer = ns.call("cluster1", "http://checkout:8080/checkout").await?;
            assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"orders":{"onOrder":3}}"#));
            assert_eq!(answer.served_by.cluster, "cluster1");
            let answer = ns.call("cluster1", "http://orders:8080/orders").await?;
            assert_eq!(answer.served_by.cluster, "cluster2");
            assert!(answer.served_by.pod.starts_with("orders-"), "{answer:?}");
            Ok(())
        })
        .await
}

#[tokio::test]
#[ignore = "needs a container engine and minutes"]
async fn only_checkout_may_ask_for_orders() -> anyhow::Result<()> {
    mesh()
        .await?
        .test(async |ns| {
            ns.deploy(MANIFESTS).await?;
            ns.apply("cluster2", &only("checkout", ns)).await?;
            ns.until("others to be refused", Duration::from_secs(10), async || {
                let answer = ns.call("cluster1", "http://orders:8080/orders").await?;
                Ok(if answer.status == 403 { Poll::Ready(()) } else { Poll::NotYet(format!("{answer:?}")) })
            })
            .await?;
            let answer = ns.call("cluster1", "http://checkout:8080/checkout").await?;
            assert_eq!(answer.status, 200, "{answer:?}");
            Ok(())
        })
        .await
}

/// Who may call orders: a service account of this test's namespace.
fn only(account: &str, ns: &Namespace) -> String {
    format!(
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: orders}}
spec:
  selector: {{matchLabels: {{app: orders}}}}
  rules:
    - from: [{{source: {{principals: [cluster.local/ns/{}/sa/{account}]}}}}]
",
        ns.name()
    )
}

#[tokio::test]
#[ignore = "needs a container engine and minutes"]
async fn the_other_cluster_answers_when_this_one_is_drained() -> anyhow::Result<()> {
    mesh()
        .await?
        .test(async |ns| {
            ns.apply("cluster1", ORDERS).await?;
            ns.apply("cluster2", ORDERS).await?;
            ns.drain("cluster1").await?;
            let orders = Request::get("http://orders:8080/orders");
            for answer in ns.send_times("cluster1", &orders, 10).await? {
                assert_eq!((answer.status, answer.served_by.cluster.as_str()), (200, "cluster2"), "{answer:?}");
            }
            ns.refill("cluster1").await?;
            ns.until_everywhere("both clusters to answer", Duration::from_secs(20), async |side| {
                let known = ns.endpoints(&side.name, "orders", 8080).await?;
                Ok(if known.len() == 2 { Poll::Ready(()) } else { Poll::NotYet(format!("{known:?}")) })
            })
            .await
        })
        .await
}

#[tokio::test]
#[ignore = "needs a container engine and minutes"]
async fn a_cut_link_is_an_error_in_time_and_ends_with_it() -> anyhow::Result<()> {
    mesh()
        .await?
        .test_alone(async |ns| {
            ns.apply("cluster2", ORDERS).await?;
            // Without it, a call on a connection from before the link was disabled waits forever.
            ns.apply("cluster1", TIMEOUT).await?;
            let crosses = async |ns: &Namespace| {
                ns.until("the call to cross", Duration::from_secs(30), async || {
                    let answer = ns.call("cluster1", "http://orders:8080/orders").await?;
                    Ok(if answer.status == 200 { Poll::Ready(()) } else { Poll::NotYet(format!("{answer:?}")) })
                })
                .await
            };
            crosses(ns).await?;
            ns.cut_link("cluster1", "cluster2").await?;
            let answer = ns.call("cluster1", "http://orders:8080/orders").await?;
            assert!([503, 504].contains(&answer.status), "{answer:?}");
            assert!(answer.millis < 10_000, "{answer:?}");
            ns.end_faults().await?;
            crosses(ns).await
        })
        .await
}

/// Limits a call of orders to two seconds. Routing takes effect in the caller's cluster.
const TIMEOUT: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
    - route: [{destination: {host: orders}}]
      timeout: 2s
";
