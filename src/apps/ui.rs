//! The dashboard: clusters, calls between them, and switches. Only for this host, and protected by a token.
//!
//! ```text
//! watch: status, policies, the caller's proxy ─► session ─► /api/state ─► browser
//! browser ─► /api/call, steady, policy, link, verify, lab ─► session ─► the library's own calls
//! ```

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch::Sender;
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};

use crate::base::digest::hex;
use crate::base::error::Error;
use crate::base::interrupt::Interrupt;
use crate::cluster::environment::{Environment, Planned};
use crate::host::state::Directories;
use crate::spec::Label;

mod acting;
mod log;
mod sending;
mod server;
mod session;
mod shown;
mod traffic;
mod watch;

use session::{Session, Window, Work};

/// How many requests may be queued for the session; further ones wait, and so do their browsers.
const REQUESTS_UNREAD: usize = 16;

/// The server's address.
#[derive(Debug)]
pub struct Ui {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
}

impl Ui {
    /// Listens on a port of this host's loopback; 0 for any free one.
    ///
    /// # Errors
    /// A usage error if the port is not available.
    pub async fn bind(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| {
            Error::usage(format!("cannot listen on port {port}: {error}"))
                .hint("choose another --port, or omit it for a free one")
        })?;
        let address = listener.local_addr().context("listening on a free port")?;
        Ok(Self { listener, address, token: token()? })
    }

    /// Returns the URL for a browser. The token is in the fragment, which a browser does not send.
    pub fn url(&self) -> String {
        format!("http://{}/#{}", self.address, self.token)
    }

    /// Serves the dashboard of an environment until it is interrupted, and then waits for a running verification:
    /// it ends too, and deletes what it created.
    ///
    /// # Errors
    /// If the environment cannot be reached.
    pub async fn run(
        self,
        environment: &Environment,
        from: Option<&Label>,
        folders: &Directories,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let session = Rc::new(open(environment, from, folders, interrupt).await?);
        let verifying = session.verifying.clone();
        let (window, work) = mpsc::channel(REQUESTS_UNREAD);
        let guard = server::Guard { window: Window(window), token: self.token, address: self.address };
        let local = LocalSet::new();
        local.spawn_local(session.clone().watch_topology());
        local.spawn_local(session.clone().watch_traffic());
        local.spawn_local(session.clone().send_steadily());
        local.spawn_local(serve_session(session, work));
        let serving =
            async { axum::serve(self.listener, server::router(guard)).await.context("serving the dashboard") };
        local.run_until(until_interrupted(serving, interrupt, &verifying)).await
    }
}

/// Serves until it fails, or until an interrupt; then no more requests are handled, and work that needs a cleanup
/// is waited for.
async fn until_interrupted(
    serving: impl Future<Output = anyhow::Result<()>>,
    interrupt: &Interrupt,
    verifying: &Sender<bool>,
) -> anyhow::Result<()> {
    tokio::select! {
        served = serving => return served,
        () = interrupt.requested() => {}
    }
    // The sender lives as long as this.
    let _ = verifying.subscribe().wait_for(|verifying| !verifying).await;
    Ok(())
}

/// Handles requests, each independently.
async fn serve_session(session: Rc<Session>, mut work: mpsc::Receiver<Work>) {
    while let Some(work) = work.recv().await {
        spawn_local(work(session.clone()));
    }
}

async fn open(
    environment: &Environment,
    from: Option<&Label>,
    folders: &Directories,
    interrupt: &Interrupt,
) -> anyhow::Result<Session> {
    let from = environment.caller(from)?.to_owned();
    let Planned { engine, plan } = environment.planned().await?;
    Ok(Session {
        client: environment.client(&from).await?,
        environment: environment.clone(),
        folders: folders.clone(),
        engine,
        plan,
        from,
        interrupt: interrupt.clone(),
        idle: RefCell::default(),
        log: RefCell::default(),
        steady: RefCell::default(),
        steady_changed: Notify::new(),
        under_way: Cell::new(0),
        topology: RefCell::default(),
        look_again: Notify::new(),
        traffic: RefCell::default(),
        verify: RefCell::default(),
        verifying: Sender::default(),
        lab: RefCell::default(),
    })
}

/// 128 random bits.
fn token() -> anyhow::Result<String> {
    let mut bits = [0; 16];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bits).map_err(|_| anyhow::anyhow!("the system returned no random numbers"))?;
    Ok(hex(&bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn interrupt_waits_for_the_cleanup_of_a_verification() {
        let (interrupt, verifying) = (Interrupt::default(), Sender::new(true));
        let mut served = std::pin::pin!(until_interrupted(std::future::pending(), &interrupt, &verifying));
        assert!(futures::poll!(&mut served).is_pending());
        interrupt.request();
        assert!(futures::poll!(&mut served).is_pending(), "it does not wait for the verification");
        verifying.send_replace(false);
        served.await.unwrap();
        // Without one it ends at once.
        until_interrupted(std::future::pending(), &interrupt, &verifying).await.unwrap();
    }

    #[tokio::test]
    async fn dashboard_listens_on_loopback_with_a_fresh_token() {
        let (first, second) = (Ui::bind(0).await.unwrap(), Ui::bind(0).await.unwrap());
        assert!(first.address.ip().is_loopback());
        assert_eq!(first.token.len(), 32);
        assert_ne!(first.token, second.token);
        assert!(first.url().ends_with(&format!("/#{}", first.token)));
        let error = Ui::bind(first.address.port()).await.unwrap_err();
        assert_eq!(crate::base::error::exit_code(&error), 2);
    }
}
