//! Interrupts, full disks and a failing engine: a clear error, the right exit status, nothing incomplete, no hang.

use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::home::{Home, Kind as Fake, modes, shown};
use super::*;

/// Returns the nodes that a test's fake kind creates.
fn nodes(name: &str) -> [Removed; 2] {
    ["a", "b"].map(|cluster| Removed::container(&format!("{name}-{cluster}-control-plane")))
}

/// Returns the command lines that contain a text.
fn processes(text: &str) -> Vec<String> {
    let all = kindmesh::internals::host::tool::process::all();
    all.into_iter().map(|process| process.arguments.join(" ")).filter(|line| line.contains(text)).collect()
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn one_interrupt_stops_where_nothing_is_half_made() {
    const NAME: &str = "docker-test-stop";
    let engine = engine().await;
    let image = node_image(&engine).await;
    let _network = Removed::network(NAME);
    for umask in ["000", "077"] {
        let nodes = nodes(NAME);
        let home = Home::new(&engine, NAME).with_kind(&image, Fake::Waits);
        let mut up = home.until_made(home.with_umask(umask, &["up"]));
        let key = home.state().join("trust/root-key.pem");
        up.until("keys", || key.exists());

        // Keys are only in files that only their owner may read.
        let secret = std::fs::read_to_string(&key).unwrap().lines().nth(1).unwrap().to_owned();
        assert!(secret.len() > 40, "{secret}");
        assert!(processes(&secret).is_empty(), "a key on a command line");
        for (path, is_folder, mode) in modes(&home.root.join("state")) {
            let wanted = if is_folder { 0o700 } else { 0o600 };
            assert_eq!(mode, wanted, "{} with umask {umask}: {mode:o}", path.display());
        }

        up.signal("INT");
        let output = up.ended();
        let text = shown(&output);
        assert_eq!(output.status.code(), Some(130), "{text}");
        for words in [
            "interrupted: stopping at a consistent state; interrupt again to exit at once",
            "created so far: network kindmesh-docker-test-stop",
            "cluster a: incomplete; its nodes are removed",
            "hint: kindmesh up --name docker-test-stop continues, kindmesh down --name docker-test-stop deletes it",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        assert!(!text.contains(&secret), "a key in the output");
        for node in &nodes {
            assert!(!docker(&["inspect", &node.name]).status.success(), "{} is left", node.name);
        }
        assert!(processes(&home.root.display().to_string()).is_empty(), "kind is left");
        eprintln!("umask {umask}: {text}");
    }
    assert_eq!(said(&["network", "inspect", "--format", "{{len .Containers}}", "kindmesh-docker-test-stop"]), "0");
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn a_second_interrupt_ends_at_once() {
    const NAME: &str = "docker-test-twice";
    let engine = engine().await;
    let image = node_image(&engine).await;
    let _network = Removed::network(NAME);
    let _nodes = nodes(NAME);
    let home = Home::new(&engine, NAME).with_kind(&image, Fake::WaitsWithClient);
    let mut up = home.until_made(home.command(&["up", "--output", "json"]));
    up.signal("INT");
    // kind was killed; kindmesh waits for the client that kind started.
    let kind = format!("{}/bin/kind", home.root.display());
    up.until("exits of kind", || processes(&kind).is_empty());
    up.signal("INT");
    let output = up.ended();
    std::fs::write(home.root.join("release"), "").unwrap();
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("kindmesh up --name docker-test-twice continues where this run stopped"), "{text}");
    // The next command finds what it left.
    let down = home.command(&["down"]).output().unwrap();
    assert_eq!(down.status.code(), Some(0), "{}", shown(&down));
    assert!(!docker(&["inspect", "docker-test-twice-a-control-plane"]).status.success());
}

/// A proxy to the engine that can stop responding, or close all connections.
struct Proxy {
    socket: std::path::PathBuf,
    open: Arc<AtomicBool>,
    streams: Arc<std::sync::Mutex<Vec<UnixStream>>>,
}

impl Proxy {
    fn before(engine: &Engine, socket: std::path::PathBuf) -> Self {
        let behind = engine.endpoint.host.strip_prefix("unix://").expect("an engine at a socket").to_owned();
        let listener = UnixListener::bind(&socket).unwrap();
        let (open, streams) = (Arc::new(AtomicBool::new(true)), Arc::new(std::sync::Mutex::new(Vec::new())));
        let proxy = Self { socket, open: open.clone(), streams: streams.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if !open.load(Ordering::SeqCst) {
                    // Accepted, but without a response, as by an engine that hangs.
                    streams.lock().unwrap().push(client);
                    continue;
                }
                let Ok(server) = UnixStream::connect(&behind) else { return };
                let copy = |from: &UnixStream, to: &UnixStream| {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                };
                copy(&client, &server);
                copy(&server, &client);
                streams.lock().unwrap().extend([client, server]);
            }
        });
        proxy
    }

    /// Keeps existing connections, but does not respond to new ones.
    fn hang(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// Closes all connections, and accepts no new ones.
    fn close(&self) {
        self.hang();
        std::fs::remove_file(&self.socket).unwrap();
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn an_engine_that_dies_in_the_middle_is_told() {
    const NAME: &str = "docker-test-dies";
    let engine = engine().await;
    let image = node_image(&engine).await;
    let _network = Removed::network(NAME);
    let _nodes = nodes(NAME);
    let home = Home::new(&engine, NAME).with_kind(&image, Fake::EndsWithEngine);
    let proxy = Proxy::before(&engine, home.root.join("docker.sock"));
    let home = home.at(proxy.host());
    let up = home.until_made(home.command(&["up"]));
    proxy.close();
    let output = up.ended();
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("error: ") && text.contains("hint: "), "{text}");
    eprintln!("{text}");
    let status = home.command(&["status"]).output().unwrap();
    assert_eq!(status.status.code(), Some(4), "{}", shown(&status));
    // The engine is back: the next command finds the incomplete nodes.
    let home = home.at(engine.endpoint.host.clone());
    let down = home.command(&["down"]).output().unwrap();
    assert_eq!(down.status.code(), Some(0), "{}", shown(&down));
    assert!(!docker(&["inspect", "docker-test-dies-a-control-plane"]).status.success());
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn an_engine_that_hangs_is_not_waited_for() {
    const NAME: &str = "docker-test-hangs";
    let engine = engine().await;
    let image = node_image(&engine).await;
    let _network = Removed::network(NAME);
    let _nodes = nodes(NAME);
    let home = Home::new(&engine, NAME).with_kind(&image, Fake::Waits);
    let proxy = Proxy::before(&engine, home.root.join("docker.sock"));
    let home = home.at(proxy.host());
    let up = home.until_made(home.command(&["up", "--timeout", "8s"]));
    proxy.hang();
    let output = up.ended();
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("not ready after 8 s") && text.contains("still running: a cluster"), "{text}");
    eprintln!("{text}");
    let output = home.command(&["down", "--timeout", "2s"]).output().unwrap();
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("not deleted after 2 s"), "{text}");
    let home = home.at(engine.endpoint.host.clone());
    let down = home.command(&["down"]).output().unwrap();
    assert_eq!(down.status.code(), Some(0), "{}", shown(&down));
}

/// Runs kindmesh in a container on the real engine, where disks can be full.
fn in_container(engine: &Engine, image: &str, options: &[&str], arguments: &[&str]) -> Output {
    let socket = engine.endpoint.host.strip_prefix("unix://").expect("an engine at a socket");
    let socket = format!("{socket}:/var/run/docker.sock");
    // kindmesh only looks for it, and does not run it.
    let client = format!("{KINDMESH}:/bin/docker:ro");
    let fixed = ["run", "--rm", "--network", "none", "--user", "0", "--volume", &socket, "--volume", &client];
    let places =
        ["--env", "PATH=/bin", "--env", "HOME=/state", "--env", "DOCKER_HOST=unix:///var/run/docker.sock"];
    docker(&[&fixed[..], &places, options, &[image], arguments].concat())
}

#[tokio::test]
#[ignore = "needs a container engine"]
async fn a_full_and_a_read_only_disk_are_told() {
    const NAME: &str = "docker-test-disk";
    const IMAGE: &str = "kindmesh.local/docker-test-disk:1";
    let _removed = (Removed::image(IMAGE), Removed::network(NAME));
    let engine = engine().await;
    sample_image::ensure(&engine, &samples(IMAGE), Path::new(KINDMESH)).await.unwrap();
    let told = |options: &[&str], arguments: &[&str], code: i32, cause: &str| {
        let output = in_container(&engine, IMAGE, options, arguments);
        let text = shown(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(cause) && text.contains("XDG_STATE_HOME"), "{text}");
        eprintln!("{text}");
    };
    let up = ["up", "--name", NAME];
    // The checks of doctor fail before anything is changed.
    told(&["--tmpfs", "/state:size=4k"], &up, 4, "has 0.0 GB free");
    told(&["--read-only"], &up, 4, "is not writable");
    told(&["--tmpfs", "/state:ro"], &["down", "--name", NAME], 1, "Read-only file system");
    // down works on a full disk.
    let output = in_container(&engine, IMAGE, &["--tmpfs", "/state:size=4k"], &["down", "--name", NAME]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    assert!(!docker(&["network", "inspect", &network_name(NAME)]).status.success());
}
