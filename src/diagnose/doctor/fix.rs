//! The fix of a finding as one command that `doctor --fix` can run. It is data from the beginning, never read from text.

use std::os::unix::fs::MetadataExt;

use serde::Serialize;
use tokio::process::Command;

use crate::host::tool::process;

/// One command without a shell: the words that a person would type. Serialized as these words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Fix(Vec<String>);

const SUDO: &str = "sudo";

impl Fix {
    /// A command of this user.
    pub(super) fn new(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(words.into_iter().map(Into::into).collect())
    }

    /// A command of root.
    pub(super) fn of_root(words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let Self(words) = Self::new(words);
        Self(std::iter::once(SUDO.to_owned()).chain(words).collect())
    }

    /// Sets limits of the kernel until the host restarts.
    pub(super) fn sysctl(limits: &[(String, u64)]) -> Self {
        let values = limits.iter().map(|(name, value)| format!("{name}={value}"));
        Self::of_root(std::iter::once("sysctl".to_owned()).chain(values))
    }

    /// Runs the command. `sudo` asks for its password on the terminal.
    ///
    /// # Errors
    /// If it cannot be started or fails, with its output.
    pub async fn run(&self) -> anyhow::Result<()> {
        // Only Linux has fixes for root.
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
        let words = self.words(is_root);
        let program = words.first().map(String::as_str).unwrap_or_default();
        process::run(Command::new(program).args(words.iter().skip(1))).await.map(drop)
    }

    /// Returns the words to run: root needs no sudo, which may not be installed.
    fn words(&self, is_root: bool) -> &[String] {
        match self.0.split_first() {
            Some((first, rest)) if first == SUDO && is_root => rest,
            _ => &self.0,
        }
    }
}

impl std::fmt::Display for Fix {
    /// As typed in a shell.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words = self.0.iter();
        let mut command = Command::new(words.next().map(String::as_str).unwrap_or_default());
        f.write_str(&process::command_line(command.args(words)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_needs_no_sudo() {
        let fix = Fix::sysctl(&[("net.ipv4.ip_forward".into(), 1)]);
        assert_eq!(fix.to_string(), "sudo sysctl net.ipv4.ip_forward=1");
        assert_eq!(fix.words(true), ["sysctl", "net.ipv4.ip_forward=1"]);
        assert_eq!(fix.words(false), ["sudo", "sysctl", "net.ipv4.ip_forward=1"]);
        let own = Fix::new(["chmod", "-R", "go=", "/my files"]);
        assert_eq!(own.to_string(), "chmod -R go= '/my files'");
        assert_eq!(own.words(true).len(), 4);
    }

    #[tokio::test]
    async fn a_command_that_fails_is_an_error() {
        Fix::new(["true"]).run().await.unwrap();
        let error = Fix::new(["sh", "-c", "echo no >&2; exit 3"]).run().await.unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }
}
