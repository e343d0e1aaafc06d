//! The listeners of a sample service: routes, health, and a shutdown that loses no request.

use std::future::{Future, IntoFuture as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use futures::future::{join, try_join_all};
use tokio::net::TcpListener;

use super::message::Refused;
use super::producer::Producer;
use super::stopping::Stopping;
use super::{Options, Role, caller, probe, request_log, routes, tcp};
use crate::sample::Ports;

/// The maximum size of a request's body.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A sample service that listens; it responds once [`Self::run`] is called.
#[derive(Debug)]
pub struct Server {
    role: Role,
    address: SocketAddr,
    ports: Ports,
    /// Each serves HTTP of both versions, gRPC and WebSocket: which port is for which protocol matters to the mesh alone.
    http: Vec<TcpListener>,
    tcp: Option<(TcpListener, Arc<Producer>)>,
    router: Router,
    stopping: Stopping,
    drain_timeout: Duration,
}

impl Server {
    /// Binds the address of `options.listen`, and `options.listen_ports` unless the role is the caller.
    ///
    /// # Errors
    /// If an address cannot be bound.
    pub async fn bind(role: Role, options: Options) -> anyhow::Result<Self> {
        let (listener, address) = listen(options.listen).await?;
        let mut http = vec![listener];
        let stopping = Stopping::default();
        let drain_timeout = options.drain_timeout;
        let producer = Producer::new(options.metadata.clone(), stopping.clone());
        let mut ports = options.listen_ports;
        let mut tcp = None;
        if role != Role::Caller {
            for port in [&mut ports.http2, &mut ports.grpc] {
                let (listener, bound) = listen(SocketAddr::new(address.ip(), *port)).await?;
                *port = bound.port();
                http.push(listener);
            }
            let (listener, bound) = listen(SocketAddr::new(address.ip(), ports.tcp)).await?;
            ports.tcp = bound.port();
            tcp = Some((listener, producer.clone()));
        }
        let routes = match role {
            Role::Caller => caller::router(options),
            Role::Producer => routes::of_producer(producer),
            Role::Probe => probe::router(options, producer),
        };
        let router = routes
            .merge(health(stopping.clone()))
            .fallback(unknown)
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .layer(from_fn(request_log::log));
        Ok(Self { role, address, ports, http, tcp, router, stopping, drain_timeout })
    }

    /// Returns the bound address for HTTP; for port 0, with the selected port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the other ports; for port 0, the selected ones.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// Serves until `shutdown` completes. Then accepts no more connections, and returns when all requests in flight
    /// have finished, or after `Options::drain_timeout`. WebSocket and TCP connections are closed after the response to the last
    /// message.
    ///
    /// # Errors
    /// None known: axum logs a failure to accept one connection and retries.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let Self { role, address, ports, http, tcp, router, stopping, drain_timeout } = self;
        match tcp {
            Some(_) => tracing::info!(
                %role, %address, http2 = ports.http2, grpc = ports.grpc, tcp = ports.tcp, "listening"
            ),
            None => tracing::info!(%role, %address, "listening"),
        }
        let http = http.into_iter().map(|listener| {
            let listener = listener.tap_io(|connection| {
                // A small response must not wait for an acknowledgment. On failure, responses are only slower.
                let _ = connection.set_nodelay(true);
            });
            let router = router.clone().into_make_service_with_connect_info::<SocketAddr>();
            let stopping = stopping.clone();
            axum::serve(listener, router)
                .with_graceful_shutdown(async move { stopping.begun().await })
                .into_future()
        });
        let tcp = async {
            if let Some((listener, producer)) = tcp {
                tcp::serve(listener, producer).await;
            }
        };
        let serving = async {
            join(try_join_all(http), tcp).await.0?;
            stopping.finished().await;
            std::io::Result::Ok(())
        };
        let drain_over = async {
            shutdown.await;
            stopping.begin();
            tokio::time::sleep(drain_timeout).await;
        };
        tokio::select! {
            result = serving => result.with_context(|| format!("serving on {address}"))?,
            () = drain_over => tracing::warn!(%role, "stopped with requests still in flight"),
        }
        tracing::info!(%role, "stopped");
        Ok(())
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let while_listening = || format!("listening on {address}");
    let listener = TcpListener::bind(address).await.with_context(while_listening)?;
    let bound = listener.local_addr().with_context(while_listening)?;
    Ok((listener, bound))
}

fn health(stopping: Stopping) -> Router {
    Router::new()
        .route("/healthz/live", get(async || StatusCode::OK))
        .route("/healthz/ready", get(ready))
        .with_state(stopping)
}

/// Not ready during shutdown: a probe on an existing connection must not attract new traffic.
async fn ready(State(stopping): State<Stopping>) -> StatusCode {
    if stopping.has_begun() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
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
        stopping.begin();
        assert_eq!(ready(State(stopping)).await, StatusCode::SERVICE_UNAVAILABLE);
    }
}
