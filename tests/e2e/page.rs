//! The caller page of `kindmesh open`, in a browser, also with the keyboard alone.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::time::{Duration, Instant};

use fantoccini::key::Key;

use crate::browser::Browser;
use crate::environment::E2E;
use crate::open::PageServer;

/// The mesh's timeout is 5 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Envoy informs its workers of an ejection within a second.
const CIRCUIT_OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// An ejection of 15 s ends with the next interval of 15 s; a second one lasts 30 s.
const CIRCUIT_CLOSE_TIMEOUT: Duration = Duration::from_secs(75);

/// Submits the form and waits for all responses. Returns the status shown for the last one.
async fn send(browser: &Browser, timeout: Duration) -> String {
    browser.find("#send").await.click().await.unwrap();
    browser.find_within(timeout, "#send:not([aria-disabled])").await;
    browser.text("#status").await
}

async fn send_until(browser: &Browser, expected: &str, timeout: Duration) {
    let deadline = Instant::now() + timeout;
    loop {
        let status = send(browser, CALL_TIMEOUT).await;
        if status == expected {
            return;
        }
        assert!(Instant::now() < deadline, "status {status} after {timeout:?}, expected {expected}");
    }
}

#[tokio::test]
#[ignore = "needs a container engine, Chromium and minutes"]
async fn caller_page_shows_calls_timeouts_and_circuit_states() {
    let server = PageServer::start(E2E.up());
    let browser = Browser::open(1280, 1000).await;
    browser.client.goto(&server.url).await.unwrap();

    // A successful call, with the keyboard alone: through the form, field by field.
    for id in ["payload", "delay", "code", "attempts", "count", "fresh", "send"] {
        browser.press(Key::Tab).await;
        assert_eq!(browser.focused_id().await, id);
    }
    browser.press(Key::Enter).await;
    browser.find("#status.good").await;
    assert_eq!(browser.text("#status").await, "200");
    assert_eq!(browser.text("#caller-cluster .name").await, "cluster1");
    assert_eq!(browser.text("#producer-cluster .name").await, "cluster2");
    let note = browser.text("#note").await;
    assert!(note.contains("spiffe://cluster.local/ns/sample/sa/sample-caller"), "{note}");
    assert!(browser.text("#producer").await.contains("x-forwarded-client-cert"));
    browser.screenshot("good").await;

    // A producer slower than the mesh's timeout. Which cluster would have answered is unknown.
    browser.fill("#delay", "6000").await;
    assert_eq!(send(&browser, CALL_TIMEOUT).await, "504");
    browser.find("#way.bad").await;
    browser.find("#producer-cluster.absent").await;
    let note = browser.text("#note").await;
    assert!(note.starts_with("No producer responded"), "{note}");
    browser.screenshot("timeout").await;

    // A failing producer: until the circuit is open for every pod, and then for a call that would have succeeded.
    browser.fill("#delay", "0").await;
    browser.fill("#code", "500").await;
    browser.fill("#count", "16").await;
    send(&browser, CALL_TIMEOUT).await;
    browser.fill("#count", "1").await;
    send_until(&browser, "503", CIRCUIT_OPEN_TIMEOUT).await;
    browser.fill("#code", "200").await;
    assert_eq!(send(&browser, CALL_TIMEOUT).await, "503");
    assert!(browser.text("#summary").await.contains("× 503"));
    browser.screenshot("circuit-open").await;
    send_until(&browser, "200", CIRCUIT_CLOSE_TIMEOUT).await;

    // An entry in the list shows an earlier call again: the last entry is the first call that was kept.
    browser.find("#list li:last-child button").await.click().await.unwrap();
    browser.find("#list li:last-child button[aria-pressed=true]").await;

    assert!(!browser.has_horizontal_overflow().await);
    browser.client.set_window_size(400, 860).await.unwrap();
    assert!(!browser.has_horizontal_overflow().await);
    browser.screenshot("phone").await;
    browser.client.clone().close().await.unwrap();
}
