//! The dashboard, `kindmesh ui`, in a browser: live calls, switches, a verification and an exercise on the real environment.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::time::{Duration, Instant};

use fantoccini::Locator;
use fantoccini::key::Key;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::environment::{E2E, docker};
use crate::open::PageServer;

/// The dashboard polls objects every three seconds, and calls every second.
const DISPLAY_TIMEOUT: Duration = Duration::from_secs(20);
/// An ejection of 15 s ends with the next interval of 15 s; a second one lasts 30 s. A link takes two seconds.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(120);
/// Sixteen checks, and their pods.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(150);

/// Long enough for a busy host to have a quiet moment.
const STEADY_TIMEOUT: Duration = Duration::from_secs(90);

/// Steady calls per second.
const RATE: u64 = 20;

/// Sends a request to the dashboard's server, as the page does.
async fn request(browser: &Browser, path: &str, body: Option<Value>) -> (u64, Value) {
    let script = "const [path, body, done] = arguments;
        const headers = {Authorization: `Bearer ${location.hash.slice(1)}`};
        fetch(path, body ? {headers, method: 'POST', body: JSON.stringify(body)} : {headers})
            .then(async (response) => done([response.status, await response.json()]));";
    let answer = browser.client.execute_async(script, vec![path.into(), json!(body)]).await.unwrap();
    (answer[0].as_u64().unwrap(), answer[1].clone())
}

async fn state(browser: &Browser) -> Value {
    let (status, state) = request(browser, "/api/state", None).await;
    assert_eq!(status, 200, "{state}");
    state
}

/// Polls the state of the dashboard until it holds.
async fn wait_until(
    browser: &Browser,
    timeout: Duration,
    what: &str,
    condition: impl Fn(&Value) -> bool,
) -> Value {
    let deadline = Instant::now() + timeout;
    loop {
        let state = state(browser).await;
        if condition(&state) {
            return state;
        }
        if Instant::now() > deadline {
            let picture = browser.screenshot("ui-failed").await;
            panic!("timed out after {timeout:?} waiting for {what}; screenshot: {}; {state:#}", picture.display());
        }
    }
}

async fn click(browser: &Browser, css: &str) {
    browser.find(css).await.click().await.unwrap();
}

/// Returns the calls that the caller's proxy has counted, and the calls that the dashboard sent.
fn counted(state: &Value) -> (u64, u64) {
    let total = state["traffic"]["total"].as_object().expect("the counts of the proxy");
    (total.values().map(|count| count.as_u64().unwrap()).sum(), state["calls"]["counts"]["sent"].as_u64().unwrap())
}

#[tokio::test]
#[ignore = "needs a container engine, Chromium and minutes"]
async fn dashboard_shows_and_changes_live_state() {
    let ui = PageServer::serve(E2E.up(), "ui");
    let browser = Browser::open(1280, 1250).await;
    // Without a token the server refuses.
    let (url_without_token, _) = ui.url.split_once('#').unwrap();
    browser.client.goto(url_without_token).await.unwrap();
    assert_eq!(request(&browser, "/api/state", None).await.0, 401);
    browser.client.goto(&ui.url).await.unwrap();
    browser.client.refresh().await.unwrap();

    // Everything works: a call with the keyboard alone, then steady calls.
    browser.find_within(DISPLAY_TIMEOUT, "#phase.good").await;
    // No calls yet: what has been counted so far was sent by others.
    let before =
        wait_until(&browser, DISPLAY_TIMEOUT, "counts of the proxy", |state| state["traffic"].is_object());
    let before = counted(&before.await);
    for id in ["delay", "status", "payload", "count", "send"] {
        browser.press(Key::Tab).await;
        assert_eq!(browser.focused_id().await, id);
    }
    browser.press(Key::Enter).await;
    browser.find("#answer.good").await;
    browser.press(Key::Tab).await;
    assert_eq!(browser.focused_id().await, "rate");
    for _ in 0..RATE {
        browser.press(Key::Right).await;
    }
    let sent = |state: &Value| state["calls"]["counts"]["sent"].as_u64().unwrap();
    let rate = |state: &Value| state["traffic"]["rate"].as_f64().unwrap_or_default();
    let is_near_rate = |rate: f64| (rate - RATE as f64).abs() <= 2.0;
    // On a busy host the rate varies.
    let steady =
        wait_until(&browser, STEADY_TIMEOUT, "twelve seconds of steady calls at the right rate", |state| {
            sent(state) >= before.1 + RATE * 12 && is_near_rate(rate(state))
        });
    let steady = steady.await;
    assert_eq!(steady["traffic"]["errors"], 0.0, "{steady:#}");
    assert!(steady["traffic"]["p50"].as_f64().unwrap() <= steady["traffic"]["p99"].as_f64().unwrap());
    assert_eq!(steady["traffic"]["edges"][0]["cluster"], "cluster2");
    assert_eq!(steady["calls"]["lastAnswered"]["identity"], "spiffe://cluster.local/ns/sample/sa/sample-caller");
    let displayed_rate: f64 = browser.text("#rate-seen").await.parse().unwrap();
    assert!(displayed_rate > 0.0, "{displayed_rate} calls per second are shown");
    assert!(!browser.has_horizontal_overflow().await);
    browser.screenshot("ui-well-1280").await;
    browser.client.set_window_size(400, 2600).await.unwrap();
    assert!(!browser.has_horizontal_overflow().await);
    browser.screenshot("ui-well-400").await;
    browser.client.set_window_size(1280, 1250).await.unwrap();

    // At the end, the proxy has counted exactly the calls that were sent.
    assert_eq!(request(&browser, "/api/steady", Some(json!({"rate": 0}))).await.0, 200);
    let after = wait_until(&browser, DISPLAY_TIMEOUT, "equal numbers of counted and sent calls", |state| {
        let (counted, sent) = counted(state);
        counted - before.0 == sent - before.1
    });
    println!("counted and sent: {:?}, before: {before:?}", counted(&after.await));

    // The circuit breaker opens.
    browser.fill("#status", "500").await;
    browser.fill("#count", "16").await;
    click(&browser, "#send").await;
    let circuit_open = wait_until(&browser, DISPLAY_TIMEOUT, "the circuit to be open", |state| {
        state["traffic"]["edges"][0]["healthy"] == 0
    });
    circuit_open.await;
    browser.fill("#status", "200").await;
    browser.fill("#count", "1").await;
    browser.find_within(DISPLAY_TIMEOUT, "#send[aria-disabled=false]").await;
    click(&browser, "#send").await;
    browser.find_within(DISPLAY_TIMEOUT, "#way-cluster2.bad").await;
    assert!(browser.text("#way-cluster2").await.contains("circuit open"));
    browser.screenshot("ui-open-1280").await;
    browser.client.set_window_size(400, 2600).await.unwrap();
    browser.screenshot("ui-open-400").await;
    browser.client.set_window_size(1280, 1250).await.unwrap();

    // The link is disabled, and enabled again.
    click(&browser, "#switch-link").await;
    browser.find_within(DISPLAY_TIMEOUT * 2, "#switch-link[aria-checked=false][aria-disabled=false]").await;
    let node = &format!("{}-cluster2-control-plane", E2E.up().name());
    docker(&["exec", node, "test", "-e", "/etc/kindmesh/faults/cut-cluster1-cluster2"]);
    assert!(browser.text("#way-cluster2").await.contains("the link is disabled"));
    browser.screenshot("ui-cut-1280").await;
    browser.client.set_window_size(400, 2600).await.unwrap();
    browser.screenshot("ui-cut-400").await;
    browser.client.set_window_size(1280, 1250).await.unwrap();
    click(&browser, "#switch-link").await;
    browser.find_within(DISPLAY_TIMEOUT * 2, "#switch-link[aria-checked=true][aria-disabled=false]").await;
    docker(&["exec", node, "test", "!", "-e", "/etc/kindmesh/faults/cut-cluster1-cluster2"]);

    // A policy that was switched on in the dashboard is also known to kindmesh apply.
    click(&browser, "#switch-strict").await;
    browser.find_within(DISPLAY_TIMEOUT, "#switch-strict[aria-checked=true][aria-disabled=false]").await;
    assert!(E2E.up().run(&["unapply", "strict"]).stdout.contains("strict removed"));
    wait_until(&browser, RECOVERY_TIMEOUT, "the circuit to close", |state| {
        state["traffic"]["edges"][0]["healthy"] == 2
    })
    .await;

    // All claims, live.
    click(&browser, "#verify").await;
    browser.find_within(DISPLAY_TIMEOUT * 2, "#checks details.good").await;
    wait_until(&browser, VERIFY_TIMEOUT, "the verification to end", |state| state["verify"]["running"] == false)
        .await;
    let locator = Locator::XPath("//*[@id='verify-told'][.='20 of 20 hold']");
    browser.client.wait().at_most(DISPLAY_TIMEOUT).for_element(locator).await.unwrap();

    // An exercise.
    browser.find("#exercise").await.select_by_value("2").await.unwrap();
    click(&browser, "#lab-start").await;
    let is_idle = |state: &Value| state["lab"]["running"].is_null();
    let exercise = wait_until(&browser, RECOVERY_TIMEOUT, "the exercise to be set up", |state| {
        is_idle(state) && state["lab"]["progress"]["current"] == "02-stub"
    });
    let exercise = exercise.await;
    assert_eq!(exercise["lab"]["failure"], Value::Null);
    // Progress outlives tests: some hints may have been shown before.
    let hints = |state: &Value| state["lab"]["hints"].as_array().unwrap().len();
    let expected_hints = (hints(&exercise) + 1).min(exercise["lab"]["hintsOf"].as_u64().unwrap() as usize);
    browser.find("#lab-page h3").await;
    browser.find_within(DISPLAY_TIMEOUT, "#lab-check[aria-disabled=false]").await;
    click(&browser, "#lab-check").await;
    browser.find_within(DISPLAY_TIMEOUT, "#lab-points .bad").await;
    click(&browser, "#lab-hint").await;
    wait_until(&browser, DISPLAY_TIMEOUT, "a hint", |state| hints(state) == expected_hints).await;
    browser.screenshot("ui-exercise-1280").await;
    click(&browser, "#lab-solve").await;
    wait_until(&browser, DISPLAY_TIMEOUT, "the solution to begin", |state| !is_idle(state)).await;
    wait_until(&browser, RECOVERY_TIMEOUT, "the solution", is_idle).await;
    browser.find_within(DISPLAY_TIMEOUT, "#lab-check[aria-disabled=false]").await;
    click(&browser, "#lab-check").await;
    browser.find_within(DISPLAY_TIMEOUT, "#lab-points .note.good").await;
    click(&browser, "#lab-reset").await;
    wait_until(&browser, RECOVERY_TIMEOUT, "the end of the exercise", |state| {
        is_idle(state) && state["lab"]["progress"]["current"].is_null()
    })
    .await;

    let dark = Browser::dark(1280, 1250).await;
    dark.client.goto(&ui.url).await.unwrap();
    dark.find_within(DISPLAY_TIMEOUT, "#phase.good").await;
    let is_dark = "return getComputedStyle(document.body).backgroundColor === 'rgb(19, 23, 22)'";
    assert_eq!(dark.client.execute(is_dark, Vec::new()).await.unwrap(), true);
    dark.screenshot("ui-dark-1280").await;
    dark.client.set_window_size(400, 2600).await.unwrap();
    assert!(!dark.has_horizontal_overflow().await);
    dark.screenshot("ui-dark-400").await;
    for browser in [browser, dark] {
        browser.client.clone().close().await.unwrap();
    }
}
