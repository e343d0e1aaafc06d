//! TCP, where the server speaks first: a line with its location, then a line of JSON for each line that it receives.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::connection::MAX_ANSWER_BYTES;
use super::outcome::Outcome;
use super::producer::Producer;
use super::target::{CallError, Target};
use crate::sample::{Message, Metadata, ProducerAnswer, Refusal};

/// What the server says first.
#[derive(Serialize, Deserialize)]
struct Greeting {
    metadata: Metadata,
}

/// One end of a connection, line by line.
struct Lines {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl Lines {
    fn of(stream: TcpStream) -> Self {
        let (from, to) = stream.into_split();
        Self { from: BufReader::new(from), to }
    }

    async fn send(&mut self, value: &impl Serialize) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.to.write_all(&line).await
    }

    /// Returns the next line; none at the end of the connection.
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_ANSWER_BYTES).unwrap_or(u64::MAX);
        (&mut self.from).take(limit).read_until(b'\n', &mut line).await?;
        match line.last() {
            Some(b'\n') => Ok(Some(line.into())),
            Some(_) if line.len() == MAX_ANSWER_BYTES => Err(std::io::Error::other("the line is too long")),
            Some(_) => Err(std::io::ErrorKind::UnexpectedEof.into()),
            None => Ok(None),
        }
    }
}

/// Serves a listener until the producer stops.
pub(super) async fn serve(listener: TcpListener, producer: Arc<Producer>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = producer.stopping.begun() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let producer = producer.clone();
                tokio::spawn(async move {
                    let ended = converse(&producer, stream).await;
                    let error = ended.err().map(|error| error.to_string());
                    tracing::info!(%peer, error, "TCP connection closed");
                });
            }
            // Too many open files, for example: others may be closed soon.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a TCP connection");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(producer: &Producer, stream: TcpStream) -> std::io::Result<()> {
    let mut stopping = producer.stopping.connection();
    stream.set_nodelay(true)?;
    let mut lines = Lines::of(stream);
    lines.send(&Greeting { metadata: producer.metadata.clone() }).await?;
    loop {
        let line = tokio::select! {
            line = lines.next() => line?,
            () = stopping.begun() => None,
        };
        let Some(line) = line else { return Ok(()) };
        match Message::read(Ok(line)) {
            Ok((_, message)) => {
                let (_, answer) = producer.answer(&message, &HeaderMap::new(), None).await;
                lines.send(&answer).await?;
            }
            Err(refused) => lines.send(&Refusal { reason: refused.reason }).await?,
        }
    }
}

/// Calls a producer, on a new connection.
pub(super) async fn ask(target: &Target, message: &Message) -> Result<Outcome, CallError> {
    let mut lines = Lines::of(target.open().await?);
    let closed = |when: &str| target.failed(format!("closed by the server or a proxy {when}"));
    let greeting = lines.next().await.map_err(|source| target.failed(source))?;
    let greeting = greeting.ok_or_else(|| closed("before the server spoke"))?;
    if serde_json::from_slice::<Greeting>(&greeting).is_err() {
        return Ok(Outcome::of_text(StatusCode::INTERNAL_SERVER_ERROR, &greeting));
    }
    lines.send(message).await.map_err(|source| target.failed(source))?;
    let answer = lines.next().await.map_err(|source| target.failed(source))?;
    let answer = answer.ok_or_else(|| closed("before the server responded"))?;
    Ok(match serde_json::from_slice::<ProducerAnswer>(&answer) {
        Ok(answer) => Outcome::answered(StatusCode::OK, answer),
        Err(_) => Outcome::of_text(StatusCode::INTERNAL_SERVER_ERROR, &answer),
    })
}
