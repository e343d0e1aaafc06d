use super::*;
use crate::report::testing::{at, failing_run, finished, good_run, started};

fn recorded(run: Vec<(f64, Option<Event>)>) -> Vec<Recorded> {
    run.into_iter().filter_map(|(seconds, event)| Some(Recorded { time: at(seconds), event: event? })).collect()
}

/// Two clusters; the second one's images are late.
pub(crate) fn two_clusters() -> Timeline {
    let (one, two) = (Some("cluster1"), Some("cluster2"));
    let run = vec![
        (0.0, started("engine", None)),
        (0.1, finished("engine", None, 0.1, false)),
        (0.1, started("lock", None)),
        (0.1, finished("lock", None, 0.0, false)),
        (0.2, started("network", None)),
        (0.5, finished("network", None, 0.3, true)),
        (0.5, started("trust", None)),
        (0.5, finished("trust", None, 0.0, true)),
        (0.5, started("cluster", one)),
        (0.5, started("cluster", two)),
        (0.5, started("bake", None)),
        (4.5, finished("bake", None, 4.0, true)),
        (12.0, finished("cluster", one, 11.5, true)),
        (12.0, started("cacerts", one)),
        (12.5, finished("cacerts", one, 0.5, true)),
        (12.5, started("istio", one)),
        (14.0, finished("cluster", two, 13.5, true)),
        (14.0, started("istiod", two)),
        (14.0, started("images", two)),
        (15.0, finished("istio", one, 2.5, true)),
        (18.0, finished("images", two, 4.0, true)),
        (20.0, finished("istiod", two, 6.0, true)),
        (20.0, started("samples", two)),
        (24.0, finished("samples", two, 4.0, true)),
        (24.0, started("endpoints", one)),
        (24.1, finished("endpoints", one, 0.1, false)),
        (24.1, started("call", one)),
        (24.9, finished("call", one, 0.8, false)),
        (
            25.0,
            Some(Event::Ready { seconds: 25.0, environment: "kindmesh".into(), kubeconfig: "/kubeconfig".into() }),
        ),
    ];
    Timeline::of("up", &recorded(run)).unwrap()
}

#[test]
fn critical_path_follows_the_last_dependencies() {
    let timeline = two_clusters();
    let path: Vec<_> = timeline
        .critical
        .iter()
        .map(|piece| {
            let step = piece.step.as_deref().unwrap_or("-");
            format!("{step} {} {}-{}", piece.cluster.as_deref().unwrap_or_default(), piece.start, piece.end)
        })
        .collect();
    insta::assert_snapshot!(path.join("\n"), @r"
    engine  0-0.1
    -  0.1-0.2
    network  0.2-0.5
    bake  0.5-4.5
    cluster cluster2 4.5-14
    images cluster2 14-18
    istiod cluster2 18-20
    samples cluster2 20-24
    endpoints cluster1 24-24.1
    call cluster1 24.1-24.9
    -  24.9-25
    ");
    let whole: f64 = timeline.critical.iter().map(|piece| piece.end - piece.start).sum();
    assert!((whole - timeline.seconds).abs() < 1e-6);
    for (before, after) in timeline.critical.iter().zip(&timeline.critical[1..]) {
        assert!((before.end - after.start).abs() < 1e-9, "{before:?} {after:?}");
    }
}

#[test]
fn unfinished_step_lasts_to_the_end() {
    let timeline = Timeline::of("up", &recorded(failing_run())).unwrap();
    assert_eq!(timeline.outcome, Outcome::Failed);
    assert!(timeline.steps.iter().all(|bar| !bar.ended && bar.end == timeline.seconds));
    assert_eq!(timeline.critical.last().unwrap().end, timeline.seconds);
}

#[test]
fn waits_are_kept_once_in_turn() {
    let timeline = Timeline::of("up", &recorded(good_run())).unwrap();
    assert_eq!(timeline.outcome, Outcome::Ready);
    let bar = timeline.steps.iter().find(|bar| bar.cluster.as_deref() == Some("cluster1")).unwrap();
    assert_eq!(bar.waits, ["nodes are ready"]);
}

#[test]
fn no_events_are_no_run() {
    assert_eq!(Timeline::of("up", &[]), None);
}
