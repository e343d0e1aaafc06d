use super::*;
use crate::report::timeline::tests::two_clusters;

#[test]
fn chart_shows_the_critical_path() {
    insta::assert_snapshot!(text(&two_clusters(), Style::plain(), true, 90));
}

#[test]
fn without_unicode_the_chart_is_ascii_and_fits() {
    let text = text(&two_clusters(), Style::plain(), false, 80);
    assert!(text.is_ascii());
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
}

#[test]
fn page_escapes_text() {
    let mut timeline = two_clusters();
    timeline.steps[0].waits.push("<script>\"".into());
    let page = page(&timeline, "shop");
    assert!(page.contains("waited for &lt;script&gt;&quot;"));
    assert!(!page.contains("<script"));
    assert!(page.contains("<h1>shop: up of 2026-07-01 08:00:00 UTC: ready after 25.0s</h1>"));
    // No external resources.
    assert!(
        !page.contains("http:") && !page.contains("https:") && !page.contains("url(") && !page.contains("src=")
    );
}
