//! A headless Chromium, driven by the chromedriver that is on PATH. Nothing is downloaded.

#![expect(clippy::unwrap_used, reason = "clippy tells tests from helpers by the attribute alone")]

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

/// How long a page may take for what a person would call at once.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A browser; it ends with this value.
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
    /// Has it end its browsers, which would outlive it otherwise when a test fails.
    fn shut_down(&self) -> std::io::Result<()> {
        let Some(port) = self.port else { return Ok(()) };
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(AT_ONCE))?;
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
    /// Starts one with a window of that size.
    pub async fn open(width: u32, height: u32) -> Self {
        Self::with(width, height, &[]).await
    }

    /// The same for a person who likes it dark.
    pub async fn dark(width: u32, height: u32) -> Self {
        Self::with(width, height, &["--blink-settings=preferredColorScheme=0"]).await
    }

    async fn with(width: u32, height: u32, more: &[&str]) -> Self {
        let process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver cannot be run: tests/lab/browser");
        let mut driver = Driver { process, port: None };
        let said = BufReader::new(driver.process.stdout.take().unwrap()).lines();
        let port = said
            .map(Result::unwrap)
            .find_map(|line| line.split_once("started successfully on port ")?.1.trim_matches('.').parse().ok())
            .expect("chromedriver ended");
        driver.port = Some(port);
        let mut arguments = vec!["--headless=new".to_owned(), format!("--window-size={width},{height}")];
        arguments.extend(more.iter().map(ToString::to_string));
        // Chromium's sandbox refuses to start for root, and root is who runs the lab.
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

    /// The element that a CSS selector finds, as soon as there is one.
    pub async fn find(&self, css: &str) -> Element {
        self.find_within(AT_ONCE, css).await
    }

    /// The same, for what the page waits for itself.
    pub async fn find_within(&self, time: Duration, css: &str) -> Element {
        match self.client.wait().at_most(time).for_element(Locator::Css(css)).await {
            Ok(element) => element,
            Err(error) => {
                let picture = self.picture("failed").await;
                panic!("{css}: {error}; the page then: {}", picture.display());
            }
        }
    }

    /// The text of an element, which the page may draw anew at any moment.
    pub async fn text(&self, css: &str) -> String {
        loop {
            match self.find(css).await.text().await {
                Err(error) if error.is_stale_element_reference() => {}
                text => return text.unwrap(),
            }
        }
    }

    /// Fills a field as a person does.
    pub async fn fill(&self, css: &str, value: &str) {
        let field = self.find(css).await;
        field.clear().await.unwrap();
        field.send_keys(value).await.unwrap();
    }

    /// Presses a key where the keyboard is.
    pub async fn press(&self, key: Key) {
        self.client.active_element().await.unwrap().send_keys(&(key + "")).await.unwrap();
    }

    /// The id of the element that has the keyboard.
    pub async fn focused(&self) -> String {
        self.client.active_element().await.unwrap().attr("id").await.unwrap().unwrap_or_default()
    }

    /// Whether a person has to scroll sideways.
    pub async fn overflows(&self) -> bool {
        let script = "return document.documentElement.scrollWidth > window.innerWidth";
        self.client.execute(script, Vec::new()).await.unwrap().as_bool().unwrap()
    }

    /// Keeps a picture of the page, to be looked at; gives its path.
    pub async fn picture(&self, name: &str) -> PathBuf {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}.png"));
        std::fs::write(&path, self.client.screenshot().await.unwrap()).unwrap();
        path
    }
}
