//! The listener of a sample service: routes, health, and a shutdown that loses no request.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::message::Refused;
use super::{Options, Role, caller, probe, producer, request_log};

/// The maximum size of a request's body.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A sample service that listens; it responds once [`Self::run`] is called.
#[derive(Debug)]
pub struct Server {
    role: Role,
    address: SocketAddr,
    listener: TcpListener,
    router: Router,
    stopping: Stopping,
    drain_timeout: Duration,
}

/// Whether the service is shutting down.
#[derive(Debug, Clone, Default)]
struct Stopping(Arc<AtomicBool>);

impl Server {
    /// Binds the address of `options.listen`.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(role: Role, options: Options) -> anyhow::Result<Self> {
        let while_listening = || format!("listening on {}", options.listen);
        let listener = TcpListener::bind(options.listen).await.with_context(while_listening)?;
        let address = listener.local_addr().with_context(while_listening)?;
        let stopping = Stopping::default();
        let drain_timeout = options.drain_timeout;
        let routes = match role {
            Role::Caller => caller::router(options),
            Role::Producer => producer::router(options.metadata),
            Role::Probe => probe::router(options),
        };
        let router = routes
            .merge(health(stopping.clone()))
            .fallback(unknown)
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .layer(from_fn(request_log::log));
        Ok(Self { role, address, listener, router, stopping, drain_timeout })
    }

    /// Returns the bound address; for port 0, with the selected port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes. Then accepts no more connections, and returns when all requests in flight
    /// have finished, or after `Options::drain_timeout`.
    ///
    /// # Errors
    /// None known: axum logs a failure to accept one connection and retries.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let Self { role, address, listener, router, stopping, drain_timeout } = self;
        let (stopped, drain_begins) = oneshot::channel();
        let listener = listener.tap_io(|connection| {
            // A small response must not wait for an acknowledgment. On failure, responses are only slower.
            let _ = connection.set_nodelay(true);
        });
        tracing::info!(%role, %address, "listening");
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
        let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
            shutdown.await;
            stopping.0.store(true, Ordering::Relaxed);
            let _ = stopped.send(());
        });
        let drain_over = async {
            match drain_begins.await {
                Ok(()) => tokio::time::sleep(drain_timeout).await,
                // `serving` ended by itself, and its result counts.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            result = serving => result.with_context(|| format!("serving on {address}"))?,
            () = drain_over => tracing::warn!(%role, "stopped with requests still in flight"),
        }
        tracing::info!(%role, "stopped");
        Ok(())
    }
}

fn health(stopping: Stopping) -> Router {
    Router::new()
        .route("/healthz/live", get(async || StatusCode::OK))
        .route("/healthz/ready", get(ready))
        .with_state(stopping)
}

/// Not ready during shutdown: a probe on an existing connection must not attract new traffic.
async fn ready(State(stopping): State<Stopping>) -> StatusCode {
    if stopping.0.load(Ordering::Relaxed) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

async fn unknown(method: Method, uri: Uri) -> Refused {
    Refused { status: StatusCode::NOT_FOUND, reason: format!("no route for {method} {}", uri.path()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stopping_service_is_not_ready() {
        let stopping = Stopping::default();
        assert_eq!(ready(State(stopping.clone())).await, StatusCode::OK);
        stopping.0.store(true, Ordering::Relaxed);
        assert_eq!(ready(State(stopping)).await, StatusCode::SERVICE_UNAVAILABLE);
    }
}
