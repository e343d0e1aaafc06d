//! The progress of pulls: the engine's reports about layers, as megabytes of images.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::CreateImageInfo;
use tokio::time::Instant;

/// How long a pull may make no progress. A layer of hundreds of megabytes is unpacked in seconds, and an engine
/// that retries a registry reports it.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(120);
/// How often progress is reported; more would only fill the log of a workflow and the record of a run.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const MEGABYTE: u64 = 1_000_000;

/// One layer. Sizes are download sizes, in bytes: layers are compressed.
#[derive(Debug, Default, PartialEq)]
struct Layer {
    /// None until its download has begun.
    size: Option<u64>,
    loaded: u64,
    /// The engine's last status of it, and the progress of that.
    said: (String, u64),
}

/// The progress of one pull.
#[derive(Debug, Default)]
pub(super) struct Progress {
    layers: BTreeMap<String, Layer>,
    /// The last status of the whole image.
    said: String,
}

impl Progress {
    /// Takes a report of the engine; returns whether it is new. Some engines repeat the same one ten times per
    /// second.
    pub(super) fn take(&mut self, info: &CreateImageInfo) -> bool {
        let status = info.status.clone().unwrap_or_default();
        let number = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
        let detail = info.progress_detail.clone().unwrap_or_default();
        let (current, total) = (number(detail.current), number(detail.total));
        // "Pulling from istio/pilot" has the tag as its id.
        let Some(id) = info.id.clone().filter(|_| !status.starts_with("Pulling from")) else {
            return std::mem::replace(&mut self.said, status.clone()) != status;
        };
        let layer = self.layers.entry(id).or_default();
        match status.as_str() {
            "Downloading" => {
                layer.loaded = current;
                layer.size = Some(total.max(current)).filter(|size| *size > 0).or(layer.size);
            }
            "Already exists" => *layer = Layer { size: Some(0), ..Layer::default() },
            // A small layer is never reported as downloading.
            "Verifying Checksum" | "Download complete" | "Extracting" | "Pull complete" => {
                layer.loaded = *layer.size.get_or_insert(if status == "Extracting" { total } else { 0 });
            }
            _ => {}
        }
        let said = (status, current);
        std::mem::replace(&mut layer.said, said.clone()) != said
    }

    /// Returns `34 of 128 MB`; nothing until a size is known. The number changes by at least a hundredth of the
    /// total.
    pub(super) fn describe(&self) -> Option<String> {
        let size: u64 = self.layers.values().filter_map(|layer| layer.size).sum();
        let loaded: u64 = self.layers.values().map(|layer| layer.loaded).sum();
        let whole = size.div_ceil(MEGABYTE);
        let is_loaded = |layer: &Layer| layer.size == Some(layer.loaded);
        if size == 0 {
            return None;
        }
        if self.layers.values().all(is_loaded) {
            return Some(format!("{whole} MB loaded, unpacking"));
        }
        let (megabytes, hundredth) = (loaded / MEGABYTE, (whole / 100).max(1));
        let megabytes = megabytes - megabytes % hundredth;
        Some(match self.layers.values().all(|layer| layer.size.is_some()) {
            true => format!("{megabytes} of {whole} MB"),
            false => format!("{megabytes} of at least {whole} MB"),
        })
    }
}

/// Parallel pulls, by the image's name.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    pulls: BTreeMap<String, Progress>,
    /// The last report, and when.
    told: Option<(String, Instant)>,
    /// When any pull last made progress.
    moved: Option<Instant>,
}

impl Pulls {
    /// Takes a report of the engine about an image.
    pub(super) fn take(&mut self, image: &str, info: &CreateImageInfo, now: Instant) {
        if self.pulls.entry(image.to_owned()).or_default().take(info) {
            self.moved = Some(now);
        }
    }

    /// Returns when any pull last made progress; `start` if none has. The engine downloads a few layers at a time, so a
    /// pull can wait silently for another one.
    pub(super) fn moved_since(&self, start: Instant) -> Instant {
        self.moved.map_or(start, |moved| moved.max(start))
    }

    /// Returns the progress of one pull.
    pub(super) fn describe(&self, image: &str) -> Option<String> {
        self.pulls.get(image)?.describe()
    }

    /// Removes a pull that has ended.
    pub(super) fn end(&mut self, image: &str) {
        self.pulls.remove(image);
    }

    /// Returns what to report now: `pilot 34 of 128 MB, proxyv2 12 of 90 MB`; nothing if it has not changed, or if
    /// the last report is too recent.
    pub(super) fn news(&mut self, now: Instant) -> Option<String> {
        if self.told.as_ref().is_some_and(|(_, at)| now.duration_since(*at) < REPORT_INTERVAL) {
            return None;
        }
        let of =
            |(image, progress): (&String, &Progress)| Some(format!("{} {}", short(image), progress.describe()?));
        let text = self.pulls.iter().filter_map(of).collect::<Vec<_>>().join(", ");
        if text.is_empty() || self.told.as_ref().is_some_and(|(told, _)| *told == text) {
            return None;
        }
        self.told = Some((text.clone(), now));
        Some(text)
    }
}

/// Returns an image's name without registry, directory, tag and digest.
fn short(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    let name = name.rsplit('/').next().unwrap_or(name);
    name.split(':').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PILOT: &str = "registry.example:5000/istio/pilot:1.31.1";

    fn info(line: &str) -> CreateImageInfo {
        serde_json::from_str(line).unwrap()
    }

    fn downloading(layer: &str, current: u64, total: u64) -> CreateImageInfo {
        let detail = format!(r#"{{"current":{current},"total":{total}}}"#);
        info(&format!(r#"{{"status":"Downloading","progressDetail":{detail},"id":"{layer}"}}"#))
    }

    fn said(layer: &str, status: &str) -> CreateImageInfo {
        info(&format!(r#"{{"status":"{status}","progressDetail":{{}},"id":"{layer}"}}"#))
    }

    #[test]
    fn layer_progress_adds_up_to_megabytes() {
        let mut pull = Progress::default();
        let mut told = |info: CreateImageInfo| {
            pull.take(&info);
            pull.describe().unwrap_or_default()
        };
        assert_eq!(told(info(r#"{"status":"Pulling from istio/pilot","id":"1.31.1"}"#)), "");
        assert_eq!(told(said("a", "Pulling fs layer")), "");
        assert_eq!(told(said("b", "Pulling fs layer")), "");
        assert_eq!(told(said("c", "Already exists")), "");
        assert_eq!(told(downloading("a", 4_400_000, 28_000_000)), "4 of at least 28 MB");
        assert_eq!(told(downloading("b", 30_000_000, 100_000_000)), "34 of 128 MB");
        // Retried from the beginning.
        assert_eq!(told(downloading("b", 0, 100_000_000)), "4 of 128 MB");
        assert_eq!(told(said("b", "Verifying Checksum")), "104 of 128 MB");
        assert_eq!(told(said("a", "Download complete")), "128 MB loaded, unpacking");
        let extracting = r#"{"status":"Extracting","progressDetail":{"current":9,"total":28000000},"id":"a"}"#;
        assert_eq!(told(info(extracting)), "128 MB loaded, unpacking");
        // A small layer completes without a reported size.
        assert_eq!(told(said("d", "Download complete")), "128 MB loaded, unpacking");
        assert_eq!(told(said("a", "Pull complete")), "128 MB loaded, unpacking");
    }

    #[test]
    fn large_pull_progress_moves_by_hundredths() {
        let mut pull = Progress::default();
        let mut texts = std::collections::BTreeSet::new();
        for loaded in 0..1000 {
            pull.take(&downloading("a", loaded * MEGABYTE, 1000 * MEGABYTE));
            texts.insert(pull.describe().unwrap());
        }
        assert_eq!(texts.len(), 100);
        assert!(texts.contains("990 of 1000 MB"), "{texts:?}");
    }

    #[test]
    fn repeated_pull_status_is_not_news() {
        let mut pull = Progress::default();
        assert!(pull.take(&said("a", "Waiting")));
        assert!(!pull.take(&said("a", "Waiting")));
        assert!(pull.take(&downloading("a", 1, 10)));
        assert!(!pull.take(&downloading("a", 1, 10)));
        assert!(pull.take(&downloading("a", 2, 10)));
        let whole = info(r#"{"status":"Digest: sha256:0"}"#);
        assert!(pull.take(&whole) && !pull.take(&whole));
    }

    #[test]
    fn pulls_are_reported_on_one_line_at_most_once_a_second() {
        let mut pulls = Pulls::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(pulls.news(at(0)), None);
        pulls.take(PILOT, &downloading("a", 34_000_000, 128_000_000), start);
        assert_eq!(pulls.news(at(0)).as_deref(), Some("pilot 34 of 128 MB"));
        pulls.take("kindest/node:v1@sha256:0", &downloading("a", 12_000_000, 90_000_000), start);
        assert_eq!(pulls.news(at(900)), None, "too soon");
        assert_eq!(pulls.news(at(1000)).as_deref(), Some("node 12 of 90 MB, pilot 34 of 128 MB"));
        pulls.take(PILOT, &downloading("a", 34_500_000, 128_000_000), start);
        assert_eq!(pulls.news(at(3000)), None, "nothing new");
        pulls.end("kindest/node:v1@sha256:0");
        assert_eq!(pulls.news(at(3000)).as_deref(), Some("pilot 34 of 128 MB"));
        assert_eq!(pulls.describe(PILOT).as_deref(), Some("34 of 128 MB"));
    }

    #[test]
    fn progress_of_any_pull_keeps_all_from_stalling() {
        let mut pulls = Pulls::default();
        let start = Instant::now();
        let later = start + Duration::from_secs(100);
        assert_eq!(pulls.moved_since(start), start);
        pulls.take(PILOT, &downloading("a", 1, 10), later);
        assert_eq!(pulls.moved_since(start), later);
        pulls.take(PILOT, &downloading("a", 1, 10), later + Duration::from_secs(100));
        assert_eq!(pulls.moved_since(start), later, "a repeated report is no progress");
    }
}
