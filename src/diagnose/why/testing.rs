//! Facts of a call that succeeds. Tests change them to make it fail.

use serde_json::json;

use super::facts::{Call, Caller, Cluster, Facts, Linked, Pod, Port, Proxy, Route, Service, Transport, Workload};

pub(super) const POOL: &str = "outbound|8080||orders.shop.svc.cluster.local";

/// Returns facts: `checkout` in `cluster1` calls `orders` in `cluster2`.
pub(super) fn works() -> Facts {
    let service = Service {
        ports: vec![Port { name: "http".into(), number: 8080, target: "http".into(), protocol: None }],
        selector: [("app".to_owned(), "orders".to_owned())].into(),
        cluster_ip: Some([10, 96, 0, 1].into()),
        ..Service::default()
    };
    let cluster = |name: &str| Cluster {
        name: name.into(),
        context: format!("kind-e-{name}"),
        has_namespace: true,
        service: Some(service.clone()),
        linked: Linked::Yes,
        network_policies: Some(Vec::new()),
        ..Cluster::default()
    };
    let pod = Pod {
        name: "orders-1".into(),
        ready: true,
        meshed: true,
        labels: service.selector.clone(),
        ports: vec![("http".into(), 8080)],
        address: Some([10, 2, 0, 1].into()),
        ..Pod::default()
    };
    let mut there = cluster("cluster2");
    there.pods = vec![pod];
    there.pod_subnets = vec!["10.2.0.0/16".into()];
    let mut here = cluster("cluster1");
    here.pod_subnets = vec!["10.1.0.0/16".into()];
    there.workloads = vec![Workload { kind: "Deployment".into(), name: "orders".into(), replicas: 1 }];
    Facts {
        mesh_config: json!({}),
        environment: "e".into(),
        call: Call {
            cluster: "cluster1".into(),
            namespace: "shop".into(),
            name: "orders".into(),
            service_namespace: "shop".into(),
            port: 8080,
            path: "/".into(),
            ..Call::default()
        },
        caller: Some(Caller {
            pod: "checkout-1".into(),
            account: "checkout".into(),
            labels: [("app".to_owned(), "checkout".to_owned())].into(),
            address: Some([10, 1, 0, 1].into()),
            meshed: true,
            ready: true,
            ..Caller::default()
        }),
        clusters: vec![here, there],
        network_policies: Some(Vec::new()),
        control_plane: "cluster1".into(),
        synced: Some(vec![("cluster2".into(), "synced".into())]),
        remote_secrets: vec!["cluster2".into()],
        proxy: Some(Proxy {
            route: Some(Route { clusters: vec![POOL.into()], ..Route::default() }),
            clusters: [(POOL.to_owned(), Transport::Automatic)].into(),
            endpoints: [(POOL.to_owned(), vec![("10.2.0.1:8080".to_owned(), "healthy".to_owned())])].into(),
            ..Proxy::default()
        }),
        ..Facts::default()
    }
}
