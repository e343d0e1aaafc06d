//! Long tests, run by `make test-long` before a release. Their results go into docs/tested.md.

mod bench;
mod contexts;
#[path = "../e2e/environment.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod environment;
#[path = "../e2e/existing.rs"]
mod existing;
#[path = "../e2e/experimenting.rs"]
mod experimenting;
mod experiments;
#[path = "../e2e/faulting.rs"]
mod faulting;
#[path = "../e2e/foreign.rs"]
mod foreign;
mod headless;
mod killed;
#[path = "../e2e/killing.rs"]
mod killing;
#[path = "../e2e/lab.rs"]
mod lab;
mod labs;
mod networks;
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "../e2e/open.rs"]
mod open;
mod outages;
mod proxy;
mod remote;
mod removal;
mod restart;
#[path = "../e2e/sabotage.rs"]
mod sabotage;
mod sabotages;
mod shared;
#[path = "../e2e/shop.rs"]
mod shop;
mod snapshot;
mod soak;
mod three;
mod versions;

/// Repeats a check for a while; the check itself takes time.
fn wait_until(mut condition: impl FnMut() -> bool) -> bool {
    (0..60).any(|_| condition())
}
