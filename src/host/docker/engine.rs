//! The engine: one connection, and what it reports about itself.

use std::time::Duration;

use bollard::models::{NetworkInspect, SystemInfo, SystemInfoCgroupVersionEnum};
use bollard::{BollardRequest, Docker};

use jiff::Timestamp;
use tokio::time::Instant;

use super::endpoint::{self, Endpoint, Surroundings};
use super::{Reason, Refused};
use crate::base::counts;
use crate::base::error::Error;
use crate::plan::engine::EngineIdentity;
use crate::plan::inventory::EngineFacts;

/// The oldest engine API that is known to support all requests of kindmesh (Docker 20.10, 2020).
const MIN_API: (usize, usize) = (1, 41);
/// How long the engine may take to respond to the first requests.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of a later request, in seconds: long, since pulls and exports are requests too.
const REQUEST_SECONDS: u64 = 600;
/// The network whose MTU a new one inherits.
const DEFAULT_BRIDGE: &str = "bridge";
/// Docker's default MTU, which needs no option.
const DEFAULT_MTU: u32 = 1500;

/// A connection to the engine.
#[derive(Debug, Clone)]
pub struct Engine {
    /// The API.
    pub docker: Docker,
    /// Its address.
    pub endpoint: Endpoint,
    /// What it reports about itself.
    pub facts: EngineFacts,
}

impl Engine {
    /// Connects to the engine and asks for its identity.
    ///
    /// # Errors
    /// A missing prerequisite if there is no engine, or it does not respond or is too old.
    pub async fn connect() -> Result<Self, Error> {
        Ok(Self::try_connect(RESPONSE_TIMEOUT).await?)
    }

    /// Connects like [`Self::connect`], for a command with a deadline.
    ///
    /// # Errors
    /// As for [`Self::connect`].
    pub async fn connect_by(deadline: Instant) -> Result<Self, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        Ok(Self::try_connect(RESPONSE_TIMEOUT.min(left)).await?)
    }

    /// Connects like [`Self::connect`] within a timeout, for callers that distinguish reasons.
    ///
    /// # Errors
    /// The reason, with the error of [`Self::connect`].
    pub async fn try_connect(within: Duration) -> Result<Self, Refused> {
        let endpoint = endpoint::resolve(&Surroundings::of_process())?;
        match tokio::time::timeout(within, ask(&endpoint)).await {
            Ok(answer) => answer.map(|(docker, facts)| Self { docker, endpoint, facts }),
            Err(_) => Err(no_answer(&endpoint, within)),
        }
    }

    /// Returns the engine's identity, as in an environment's files.
    pub fn identity(&self) -> EngineIdentity {
        EngineIdentity::of(&self.facts, &self.endpoint.host)
    }
}

async fn ask(endpoint: &Endpoint) -> Result<(Docker, EngineFacts), Refused> {
    let unreachable = |error| unreachable(endpoint, &error);
    let docker = open(endpoint).map_err(unreachable)?.negotiate_version().await.map_err(unreachable)?;
    let api = docker.client_version();
    if (api.major_version, api.minor_version) < MIN_API {
        let error = Error::prerequisite(format!(
            "the engine at {} has API version {}.{}, but kindmesh requires {}.{} or newer",
            endpoint.host, api.major_version, api.minor_version, MIN_API.0, MIN_API.1
        ));
        return Err(Refused::new(Reason::TooOld, error.hint("update Docker to 20.10 or newer")));
    }
    let (facts, bridge) = facts(&docker).await.map_err(unreachable)?;
    if bridge.as_ref().is_some_and(has_only_ipv6) {
        return Err(Refused::new(Reason::OnlyIpv6, only_ipv6(endpoint)));
    }
    Ok((docker, facts))
}

fn open(endpoint: &Endpoint) -> Result<Docker, bollard::errors::Error> {
    let version = bollard::API_DEFAULT_VERSION;
    let docker = match &endpoint.tls {
        _ if endpoint.host.starts_with("unix://") => {
            Docker::connect_with_unix(&endpoint.host, REQUEST_SECONDS, version)
        }
        Some(folder) => Docker::connect_with_ssl(
            &endpoint.host,
            &folder.join("key.pem"),
            &folder.join("cert.pem"),
            &folder.join("ca.pem"),
            REQUEST_SECONDS,
            version,
        ),
        None => Docker::connect_with_http(&endpoint.host, REQUEST_SECONDS, version),
    };
    Ok(docker?.with_request_modifier(|request| {
        counts::engine_request();
        encode_credentials(request)
    }))
}

/// The engine decodes credentials as URL-safe Base64, but bollard 0.21 encodes the standard alphabet: some
/// passwords with `?`, `>` or `~` would be rejected as malformed.
fn encode_credentials(mut request: BollardRequest) -> BollardRequest {
    const HEADER: &str = "X-Registry-Auth";
    let found = request.headers().get(HEADER).and_then(|value| value.to_str().ok());
    if let Some(value) = found.and_then(|value| value.replace('+', "-").replace('/', "_").parse().ok()) {
        request.headers_mut().insert(HEADER, value);
    }
    request
}

/// Whether an engine's default bridge is IPv6-only: then the engine was configured without IPv4.
fn has_only_ipv6(bridge: &NetworkInspect) -> bool {
    let configs = bridge.ipam.iter().flat_map(|ipam| &ipam.config).flatten();
    let subnets: Vec<_> = configs.filter_map(|config| config.subnet.as_deref()).collect();
    let none_of_ipv4 = !subnets.is_empty() && subnets.iter().all(|subnet| subnet.contains(':'));
    bridge.enable_ipv4 == Some(false) || none_of_ipv4
}

fn only_ipv6(endpoint: &Endpoint) -> Error {
    Error::prerequisite(format!(
        "the engine at {} ({}) is IPv6-only: its network {DEFAULT_BRIDGE} has no IPv4, which links between \
            clusters require",
        endpoint.host, endpoint.source
    ))
    .hint("enable IPv4 in /etc/docker/daemon.json (\"bip\"), or select another engine with DOCKER_HOST")
}

async fn facts(docker: &Docker) -> Result<(EngineFacts, Option<NetworkInspect>), bollard::errors::Error> {
    let info = async {
        let asked = Timestamp::now();
        let info = docker.info().await;
        (info, asked, Timestamp::now())
    };
    let ((info, asked, told), version, bridge) =
        futures::join!(info, docker.version(), docker.inspect_network(DEFAULT_BRIDGE, None));
    let (info, version) = (info?, version?);
    let number = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
    let bridge = bridge.ok();
    let mtu = bridge
        .as_ref()
        .and_then(|bridge| bridge.options.as_ref()?.get("com.docker.network.driver.mtu")?.parse::<u32>().ok());
    let device =
        bridge.as_ref().and_then(|bridge| bridge.options.as_ref()?.get("com.docker.network.bridge.name").cloned());
    let has = |option: &str| info.security_options.iter().flatten().any(|has| has == option);
    let facts = EngineFacts {
        cgroup_version: match info.cgroup_version {
            Some(SystemInfoCgroupVersionEnum::_1) => 1,
            _ => 2,
        },
        memory: number(info.mem_total),
        cpus: number(info.ncpu),
        mtu: mtu.filter(|mtu| *mtu != DEFAULT_MTU),
        containerd: containerd(&info),
        bridge: device.unwrap_or_default(),
        podman: version.components.iter().flatten().any(|component| component.name == "Podman Engine"),
        rootless: has("name=rootless"),
        missing_controllers: missing_controllers(&info),
        forwarding: info.ipv4_forwarding,
        clock_ahead_ms: clock_ahead(info.system_time.as_deref(), asked, told),
        firewall: info.firewall_backend.and_then(|firewall| firewall.driver).unwrap_or_default(),
        proxy: info.https_proxy.unwrap_or_default(),
        id: info.id.unwrap_or_default(),
        machine: info.name.unwrap_or_default(),
        kernel: info.kernel_version.unwrap_or_default(),
        system: info.operating_system.unwrap_or_default(),
        folder: info.docker_root_dir.unwrap_or_default(),
        api_version: version.api_version.unwrap_or_default(),
        version: version.version.unwrap_or_default(),
        os: version.os.unwrap_or_default(),
        architecture: version.arch.unwrap_or_default(),
    };
    Ok((facts, bridge))
}

/// Returns the address of the containerd that stores the engine's images; none if the engine stores them in its own directory.
fn containerd(info: &SystemInfo) -> Option<String> {
    let stores = |status: &Vec<String>| status.iter().any(|value| value == "io.containerd.snapshotter.v1");
    info.driver_status.as_ref()?.iter().find(|status| stores(status))?;
    Some(info.containerd.as_ref().and_then(|containerd| containerd.address.clone()).unwrap_or_default())
}

/// Returns the cgroup controllers that a kubelet requires and the engine reports as missing. One that the engine
/// does not mention counts as present.
fn missing_controllers(info: &SystemInfo) -> Vec<String> {
    let controllers = [
        ("cpu", info.cpu_shares),
        ("cpuset", info.cpu_set),
        ("memory", info.memory_limit),
        ("pids", info.pids_limit),
    ];
    let missing = controllers.into_iter().filter(|(_, has)| *has == Some(false));
    missing.map(|(name, _)| name.to_owned()).collect()
}

/// Returns how far the engine's clock is ahead, in milliseconds: 0 if its time is between the request and the
/// response.
fn clock_ahead(engine: Option<&str>, asked: Timestamp, told: Timestamp) -> i64 {
    let Some(engine) = engine.and_then(|text| text.parse::<Timestamp>().ok()) else { return 0 };
    let (engine, asked, told) = (engine.as_millisecond(), asked.as_millisecond(), told.as_millisecond());
    (engine - told).max(0) + (engine - asked).min(0)
}

fn no_answer(endpoint: &Endpoint, within: Duration) -> Refused {
    let error = Error::prerequisite(format!(
        "the container engine at {} ({}) did not respond within {} s",
        endpoint.host,
        endpoint.source,
        within.as_secs_f32()
    ));
    Refused::new(Reason::Silent, error.hint(start_hint()))
}

fn unreachable(endpoint: &Endpoint, error: &bollard::errors::Error) -> Refused {
    let text = chain(error);
    let (reason, hint) = if text.contains("ermission denied") {
        let hint = "add yourself to the docker group: sudo usermod -aG docker $USER, then log in again";
        (Reason::NotAllowed, hint.to_owned())
    } else {
        (Reason::Absent, start_hint())
    };
    let message = format!("no container engine responds at {} ({})", endpoint.host, endpoint.source);
    Refused::new(reason, Error::prerequisite(message).evidence(text).hint(hint))
}

fn start_hint() -> String {
    let start = if cfg!(target_os = "macos") { "open -a Docker" } else { "sudo systemctl start docker" };
    format!("start Docker: {start}; or select another engine with DOCKER_HOST or docker context use")
}

/// Returns an error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;
    use serde_json::json;

    #[test]
    fn clock_between_request_and_response_is_right() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (asked, told) = (at("2026-01-02T03:04:05.000Z"), at("2026-01-02T03:04:05.100Z"));
        for (engine, ahead) in [
            ("2026-01-02T03:04:05.05Z", 0),
            ("2026-01-02T04:04:05.05+01:00", 0),
            ("2026-01-02T03:04:06.1Z", 1000),
            ("2026-01-02T03:04:03.5Z", -1500),
            ("noon", 0),
        ] {
            assert_eq!(clock_ahead(Some(engine), asked, told), ahead, "{engine}");
        }
    }

    #[test]
    fn only_controllers_reported_as_missing_are_missing() {
        let info = SystemInfo { memory_limit: Some(false), cpu_set: Some(true), ..SystemInfo::default() };
        assert_eq!(missing_controllers(&info), ["memory"]);
    }

    #[test]
    fn images_are_in_containerd_or_in_the_engines_directory() {
        let info = |value: serde_json::Value| -> SystemInfo { serde_json::from_value(value).unwrap() };
        let address = json!({"Address": "/run/containerd/containerd.sock"});
        let overlay2 = json!({"DriverStatus": [["Backing Filesystem", "extfs"]], "Containerd": address});
        assert_eq!(containerd(&info(overlay2)), None);
        let status = json!([["driver-type", "io.containerd.snapshotter.v1"]]);
        let engine_29 = json!({"DriverStatus": status, "Containerd": address});
        assert_eq!(containerd(&info(engine_29)).as_deref(), Some("/run/containerd/containerd.sock"));
        assert_eq!(containerd(&info(json!({"DriverStatus": status}))).as_deref(), Some(""));
    }

    #[test]
    fn engine_without_ipv4_is_reported() {
        let bridge = |value: serde_json::Value| -> NetworkInspect { serde_json::from_value(value).unwrap() };
        let subnets = |subnets: &[&str]| {
            let config: Vec<_> = subnets.iter().map(|subnet| json!({"Subnet": subnet})).collect();
            bridge(json!({"Name": "bridge", "IPAM": {"Config": config}}))
        };
        assert!(has_only_ipv6(&bridge(json!({"Name": "bridge", "EnableIPv4": false, "EnableIPv6": true}))));
        assert!(has_only_ipv6(&subnets(&["fd00:1::/64"])));
        assert!(!has_only_ipv6(&subnets(&["172.17.0.0/16", "fd00:1::/64"])));
        assert!(!has_only_ipv6(&subnets(&[])));
        let endpoint = Endpoint { host: "unix:///d.sock".into(), tls: None, source: "DOCKER_HOST".into() };
        let error = only_ipv6(&endpoint);
        assert_eq!(error.kind, Kind::Prerequisite);
        assert!(error.message.contains("IPv6-only"), "{}", error.message);
    }
}
