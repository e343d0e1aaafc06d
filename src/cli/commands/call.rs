//! `kindmesh call`

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{Context, Description, Done, Task};
use crate::base::error::{Error, Kind};
use crate::base::hint::up_hint;
use crate::cli::values::{DELAY_MAX, duration, whole};
use crate::cluster::call::{self, Answer, Caller, Request};
use crate::cluster::environment::Environment;
use crate::lifecycle::locked;
use crate::report::Style;
use crate::sample::Protocol;
use crate::spec::Label;

/// `call`.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// Cluster whose caller sends the calls [default: the first with a caller]
    #[arg(long, value_name = "CLUSTER")]
    pub from: Option<Label>,
    /// Protocol that the caller speaks to the producer
    #[arg(long, value_enum, default_value_t, value_name = "PROTOCOL")]
    pub protocol: Protocol,
    /// Text to send
    #[arg(long, default_value = "hello", value_name = "TEXT")]
    pub payload: String,
    /// Delay of the producer's response, in milliseconds
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = whole(0..=DELAY_MAX), allow_negative_numbers = true)]
    pub delay_ms: u64,
    /// Status of the producer's response
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = whole(200..=599u16), allow_negative_numbers = true)]
    pub status: u16,
    /// Number of attempts of each call that fail with that status; the next one succeeds [default: all]
    #[arg(long, value_name = "N", value_parser = whole(0..=1000u64), allow_negative_numbers = true)]
    pub fail_attempts: Option<u64>,
    /// Number of calls, one after another
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = whole(1..=u32::MAX), allow_negative_numbers = true)]
    pub count: u32,
    /// Exit with status 3 unless every call returns this status
    #[arg(long, value_name = "N", value_parser = whole(100..=599u16), allow_negative_numbers = true)]
    pub expect: Option<u16>,
    /// Timeout of each response, such as 45s or 1m
    #[arg(long, value_parser = duration, default_value = "45s", value_name = "TIME")]
    pub timeout: Duration,
}

pub fn command(args: CallArgs) -> Task {
    Task::new(Description { ends_outages: true, ..Description::of("call") }, async move |context| {
        run(context, &args).await
    })
}

async fn run(context: &Context, args: &CallArgs) -> anyhow::Result<Done> {
    if !args.protocol.has_status() && (args.status != 200 || args.fail_attempts.is_some()) {
        let message = format!("--status and --fail-attempts have no effect with --protocol {}", args.protocol);
        return Err(Error::usage(message).hint("a connection has no status: use http, http2 or grpc").into());
    }
    let environment = Environment::open(&context.folders, &context.environment_name()?)?;
    let from = environment.caller(args.from.as_ref())?;
    locked::require_running(environment.name(), &[from]).await?;
    let client = environment.client(from).await?;
    let namespace = environment.spec.samples.namespace.as_str();
    let late = || {
        Error::environment(format!("the caller in {from} did not respond within {} s", args.timeout.as_secs()))
            .hint(format!("check what is wrong: kindmesh status; repair: {}", up_hint(environment.name())))
    };
    let connecting = tokio::time::timeout(args.timeout, Caller::connect(&client, namespace));
    let mut caller = connecting.await.map_err(|_| late())?.map_err(|error| call::unreached(error, from))?;
    let mut unexpected = 0;
    for number in 1..=args.count {
        let request = Request {
            id: id(number),
            payload: args.payload.clone(),
            delay: args.delay_ms,
            response_code: args.status,
            fail_attempts: args.fail_attempts,
            fresh_connection: false,
            protocol: args.protocol,
        };
        let answer = tokio::time::timeout(args.timeout, caller.call(&request)).await.map_err(|_| late())??;
        unexpected += u32::from(args.expect.is_some_and(|expected| expected != answer.status_code));
        let style = context.printer.stdout_style();
        context.printer.result(&match (context.is_json(), args.count) {
            (true, _) => line(from, &answer)?,
            (false, 1) => at_length(from, &answer, style),
            (false, _) => short(number, from, &answer, style),
        });
    }
    match args.expect {
        Some(expected) if unexpected > 0 => {
            let message = format!("{unexpected} of {} calls did not return status {expected}", args.count);
            Err(Error::new(Kind::Check, message).into())
        }
        _ => Ok(Done::default()),
    }
}

/// Returns an ID that is unlikely to repeat and short enough to read aloud.
fn id(number: u32) -> String {
    let now = jiff::Timestamp::now().as_millisecond();
    format!("{now:x}-{number}")
}

fn line(from: &str, answer: &Answer) -> anyhow::Result<String> {
    Ok(serde_json::to_string(&json!({
        "from": from,
        "id": answer.id,
        "protocol": answer.protocol,
        "statusCode": answer.status_code,
        "roundTripTimeMillis": answer.round_trip_time_millis,
        "reason": answer.reason,
        "responses": answer.responses,
        "producerHttpVersion": answer.producer_http_version,
        "callerHeaders": answer.caller_headers,
        "producerHeaders": answer.producer_headers,
        "callerMetadata": answer.caller_metadata,
        "producerMetadata": answer.producer_metadata,
    }))?)
}

/// Returns the status. A connection has none: it was answered, or it failed.
fn status(answer: &Answer, style: Style) -> String {
    let ok = answer.status_code < 400;
    let text = match (answer.protocol.has_status(), ok) {
        (true, _) => answer.status_code.to_string(),
        (false, true) => "answered".to_owned(),
        (false, false) => "failed".to_owned(),
    };
    if ok { style.green(&text) } else { style.red(&text) }
}

fn short(number: u32, from: &str, answer: &Answer, style: Style) -> String {
    let text = |value: &Option<Value>, key: &str| {
        value.as_ref().and_then(|value| value[key].as_str()).unwrap_or("-").to_owned()
    };
    format!(
        "{number:>4}  {}  {:>6} ms  {from} → {} {}  {}",
        status(answer, style),
        answer.round_trip_time_millis,
        text(&answer.producer_metadata, "clusterName"),
        text(&answer.producer_metadata, "hostName"),
        answer.reason.as_deref().unwrap_or_default()
    )
    .trim_end()
    .to_owned()
}

fn at_length(from: &str, answer: &Answer, style: Style) -> String {
    let mut text = format!(
        "{} in {} ms, from {from} to {}{}\n",
        status(answer, style),
        answer.round_trip_time_millis,
        answer.served_by().unwrap_or("no producer"),
        spoken(answer)
    );
    if let Some(reason) = &answer.reason {
        text.push_str(&format!("reason: {reason}\n"));
    }
    let mut side = |title: &str, metadata: &Value, headers: &std::collections::BTreeMap<String, String>| {
        text.push_str(&format!("\n{}\n", style.bold(title)));
        for (key, value) in metadata.as_object().into_iter().flatten() {
            text.push_str(&format!("  {key:<16} {}\n", value.as_str().unwrap_or_default()));
        }
        if headers.is_empty() {
            return;
        }
        text.push_str(&format!("  {}\n", style.dim("headers received")));
        for (key, value) in headers {
            text.push_str(&format!("    {key}: {}\n", shortened(value)));
        }
    };
    side("caller", &answer.caller_metadata, &answer.caller_headers);
    if let (Some(metadata), Some(headers)) = (&answer.producer_metadata, &answer.producer_headers) {
        side("producer", metadata, headers);
    }
    text.trim_end().to_owned()
}

/// Returns what the producer received, if it is not just a request.
fn spoken(answer: &Answer) -> String {
    match (answer.protocol, answer.producer_http_version.as_deref()) {
        (Protocol::Http, _) | (_, None) if answer.protocol != Protocol::Tcp => String::new(),
        (Protocol::Tcp, _) => ", by TCP".to_owned(),
        (Protocol::GrpcStream, Some(version)) => {
            format!(", by gRPC over {version}, {} responses", answer.responses)
        }
        (Protocol::Grpc, Some(version)) => format!(", by gRPC over {version}"),
        (Protocol::Websocket, Some(version)) => format!(", by WebSocket over {version}"),
        (_, version) => format!(", by {}", version.unwrap_or_default()),
    }
}

/// A certificate chain in a header can be pages long; JSON output contains it in full.
fn shortened(value: &str) -> String {
    const MAX_LENGTH: usize = 240;
    match value.char_indices().nth(MAX_LENGTH) {
        Some((end, _)) => {
            format!("{}… ({} characters; --output json shows all)", &value[..end], value.chars().count())
        }
        None => value.to_owned(),
    }
}
