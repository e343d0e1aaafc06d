//! The caller page of `kindmesh open`, in a browser, also with the keyboard alone.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::time::{Duration, Instant};

use fantoccini::key::Key;

use crate::browser::Browser;
use crate::environment::E2E;
use crate::open::Open;

/// The mesh's timeout is 5 s.
const TIMED_OUT: Duration = Duration::from_secs(20);
/// Envoy informs its workers of an ejection within a second.
const OPENS_WITHIN: Duration = Duration::from_secs(15);
/// An ejection of 15 s ends with the next interval of 15 s; a second one lasts 30 s.
const CLOSES_WITHIN: Duration = Duration::from_secs(75);

/// Submits the form and waits for all responses. Returns the status shown for the last one.
async fn send(browser: &Browser, within: Duration) -> String {
    browser.find("#send").await.click().await.unwrap();
    browser.find_within(within, "#send:not([aria-disabled])").await;
    browser.text("#status").await
}

async fn send_until(browser: &Browser, wanted: &str, within: Duration) {
    let deadline = Instant::now() + within;
    loop {
        let status = send(browser, TIMED_OUT).await;
        if status == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "status {status} after {within:?}, expected {wanted}");
    }
}

#[tokio::test]
#[ignore = "needs a container engine, Chromium and minutes"]
async fn the_page_shows_a_call_a_timeout_and_a_circuit_that_opens_and_closes() {
    let open = Open::start(E2E.up());
    let browser = Browser::open(1280, 1000).await;
    browser.client.goto(&open.url).await.unwrap();

    // A successful call, with the keyboard alone: through the form, field by field.
    for id in ["payload", "delay", "code", "attempts", "count", "fresh", "send"] {
        browser.press(Key::Tab).await;
        assert_eq!(browser.focused().await, id);
    }
    browser.press(Key::Enter).await;
    browser.find("#status.good").await;
    assert_eq!(browser.text("#status").await, "200");
    assert_eq!(browser.text("#caller-cluster .name").await, "cluster1");
    assert_eq!(browser.text("#producer-cluster .name").await, "cluster2");
    let note = browser.text("#note").await;
    assert!(note.contains("spiffe://cluster.local/ns/sample/sa/sample-caller"), "{note}");
    assert!(browser.text("#producer").await.contains("x-forwarded-client-cert"));
    browser.picture("good").await;

    // A producer slower than the mesh's timeout. Which cluster would have answered is unknown.
    browser.fill("#delay", "6000").await;
    assert_eq!(send(&browser, TIMED_OUT).await, "504");
    browser.find("#way.bad").await;
    browser.find("#producer-cluster.absent").await;
    let note = browser.text("#note").await;
    assert!(note.starts_with("No producer answered"), "{note}");
    browser.picture("timeout").await;

    // A failing producer: until the circuit is open for every pod, and then for a call that would have succeeded.
    browser.fill("#delay", "0").await;
    browser.fill("#code", "500").await;
    browser.fill("#count", "16").await;
    send(&browser, TIMED_OUT).await;
    browser.fill("#count", "1").await;
    send_until(&browser, "503", OPENS_WITHIN).await;
    browser.fill("#code", "200").await;
    assert_eq!(send(&browser, TIMED_OUT).await, "503");
    assert!(browser.text("#summary").await.contains("× 503"));
    browser.picture("circuit-open").await;
    send_until(&browser, "200", CLOSES_WITHIN).await;

    // An entry in the list shows an earlier call again: the last entry is the first call that was kept.
    browser.find("#list li:last-child button").await.click().await.unwrap();
    browser.find("#list li:last-child button[aria-pressed=true]").await;

    assert!(!browser.overflows().await);
    browser.client.set_window_size(400, 860).await.unwrap();
    assert!(!browser.overflows().await);
    browser.picture("phone").await;
    browser.client.clone().close().await.unwrap();
}
