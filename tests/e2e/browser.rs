//! A headless Chromium, driven by the chromedriver on PATH. Nothing is downloaded.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

/// How long the page may take for something that should be immediate.
const ELEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// A browser, closed when this value is dropped.
pub struct Browser {
    pub client: Client,
    _driver: Driver,
}

/// The chromedriver process.
struct Driver {
    process: Child,
    port: Option<u16>,
}

impl Driver {
    /// Makes it close its browsers, which would otherwise outlive it when a test fails.
    fn shut_down(&self) -> std::io::Result<()> {
        let Some(port) = self.port else { return Ok(()) };
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(ELEMENT_TIMEOUT))?;
        write!(stream, "GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.shut_down();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Browser {
    /// Starts a browser with a window of the given size.
    pub async fn open(width: u32, height: u32) -> Self {
        Self::start(width, height, &[]).await
    }

    /// Starts a browser that prefers a dark color scheme.
    pub async fn dark(width: u32, height: u32) -> Self {
        Self::start(width, height, &["--blink-settings=preferredColorScheme=0"]).await
    }

    async fn start(width: u32, height: u32, extra_arguments: &[&str]) -> Self {
        let process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("run chromedriver (see tests/lab/browser)");
        let mut driver = Driver { process, port: None };
        let output = BufReader::new(driver.process.stdout.take().unwrap()).lines();
        let port = output
            .map(Result::unwrap)
            .find_map(|line| line.split_once("started successfully on port ")?.1.trim_matches('.').parse().ok())
            .expect("chromedriver exited");
        driver.port = Some(port);
        let mut arguments = vec!["--headless=new".to_owned(), format!("--window-size={width},{height}")];
        arguments.extend(extra_arguments.iter().map(ToString::to_string));
        // Chromium's sandbox refuses to start as root, and the lab runs as root.
        if std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
            arguments.push("--no-sandbox".into());
        }
        let options = json!({"goog:chromeOptions": {"args": arguments}});
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(options.as_object().unwrap().clone())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap();
        Self { client, _driver: driver }
    }

    /// Returns the element that matches a CSS selector, as soon as it exists.
    pub async fn find(&self, css: &str) -> Element {
        self.find_within(ELEMENT_TIMEOUT, css).await
    }

    /// The same, with a timeout for what the page itself waits for.
    pub async fn find_within(&self, timeout: Duration, css: &str) -> Element {
        match self.client.wait().at_most(timeout).for_element(Locator::Css(css)).await {
            Ok(element) => element,
            Err(error) => {
                let path = self.screenshot("failed").await;
                panic!("{css}: {error}; screenshot: {}", path.display());
            }
        }
    }

    /// Returns the text of an element that the page may redraw at any time.
    pub async fn text(&self, css: &str) -> String {
        loop {
            match self.find(css).await.text().await {
                Err(error) if error.is_stale_element_reference() => {}
                text => return text.unwrap(),
            }
        }
    }

    /// Fills a field as a user does.
    pub async fn fill(&self, css: &str, value: &str) {
        let field = self.find(css).await;
        field.clear().await.unwrap();
        field.send_keys(value).await.unwrap();
    }

    /// Presses a key on the focused element.
    pub async fn press(&self, key: Key) {
        self.client.active_element().await.unwrap().send_keys(&(key + "")).await.unwrap();
    }

    /// Returns the id of the focused element.
    pub async fn focused_id(&self) -> String {
        self.client.active_element().await.unwrap().attr("id").await.unwrap().unwrap_or_default()
    }

    /// Whether the page scrolls horizontally.
    pub async fn has_horizontal_overflow(&self) -> bool {
        let script = "return document.documentElement.scrollWidth > window.innerWidth";
        self.client.execute(script, Vec::new()).await.unwrap().as_bool().unwrap()
    }

    /// Saves a screenshot for inspection, and returns its path.
    pub async fn screenshot(&self, name: &str) -> PathBuf {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}.png"));
        std::fs::write(&path, self.client.screenshot().await.unwrap()).unwrap();
        path
    }
}
