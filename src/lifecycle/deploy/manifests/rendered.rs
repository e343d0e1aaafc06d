//! Directories whose manifests another program renders: Helm charts and kustomize directories.

use std::ffi::OsString;
use std::path::Path;

use tokio::process::Command;

use crate::base::error::{self, Error};
use crate::host::tool::process::{self, command_line};

/// How a directory is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rendered {
    Chart,
    Kustomization,
}

impl Rendered {
    /// Returns how a path is rendered; none if it is not such a directory.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let has = |name: &&str| path.join(name).is_file();
        if has(&"Chart.yaml") {
            Some(Self::Chart)
        } else {
            let names = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
            names.iter().any(has).then_some(Self::Kustomization)
        }
    }

    /// Returns what such a directory is, for messages.
    pub(super) fn called(self) -> &'static str {
        match self {
            Self::Chart => "a Helm chart",
            Self::Kustomization => "a kustomize directory",
        }
    }

    /// Returns the commands that render it. The first program that is installed is used.
    fn commands(self, path: &Path, namespace: &str) -> Vec<Vec<OsString>> {
        let command = |words: &[&str]| {
            let mut command: Vec<OsString> = words.iter().map(Into::into).collect();
            command.push(path.into());
            command
        };
        match self {
            Self::Chart => {
                let mut helm = command(&["helm", "template", &release(path)]);
                // As `helm install` would: with the definitions in the chart's directory `crds`.
                helm.extend(["--include-crds", "--namespace", namespace].map(Into::into));
                vec![helm]
            }
            Self::Kustomization => vec![command(&["kubectl", "kustomize"]), command(&["kustomize", "build"])],
        }
    }

    /// Renders a directory.
    ///
    /// # Errors
    /// A usage error if no program for it is installed, or the program fails: with its output, and the command whose output
    /// `kindmesh deploy -` takes.
    pub(super) async fn text(self, path: &Path, namespace: &str) -> Result<String, Error> {
        let commands = self.commands(path, namespace);
        let installed = commands.iter().find(|words| is_installed(&words[0]));
        let words = installed.unwrap_or(&commands[0]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let hint = format!("render it yourself: {} | kindmesh deploy -", command_line(&command));
        if installed.is_none() {
            let programs: Vec<_> = commands.iter().map(|words| words[0].to_string_lossy().into_owned()).collect();
            return Err(Error::usage(format!(
                "{} is {}, and {} is not installed",
                path.display(),
                self.called(),
                programs.join(" or ")
            ))
            .hint(format!("install {}, or elsewhere {hint}", programs[0])));
        }
        let output = process::run(&mut command).await.map_err(|failed| {
            let told = error::find(&failed).map(|told| told.evidence.join("\n")).unwrap_or_default();
            Error::usage(format!("cannot render {}: {failed}", path.display())).evidence(told).hint(hint)
        })?;
        String::from_utf8(output.stdout)
            .map_err(|_| Error::usage(format!("{} writes no UTF-8", words[0].to_string_lossy())))
    }
}

/// Whether the `PATH` has a program.
fn is_installed(program: &OsString) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Returns a release name for a chart: its directory's name as a DNS label.
fn release(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = full.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(fits).take(53).collect();
    match name.trim_matches('-') {
        "" => "release".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_and_kustomizations_are_rendered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("My_Shop");
        std::fs::create_dir(&path).unwrap();
        assert_eq!(Rendered::of(&path), None);
        std::fs::write(path.join("kustomization.yml"), "").unwrap();
        assert_eq!(Rendered::of(&path), Some(Rendered::Kustomization));
        std::fs::write(path.join("Chart.yaml"), "").unwrap();
        assert_eq!(Rendered::of(&path), Some(Rendered::Chart));
        let words = Rendered::Chart.commands(&path, "shop").remove(0);
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        assert_eq!(words[..3], ["helm", "template", "my-shop"]);
        assert_eq!(words[4..], ["--include-crds", "--namespace", "shop"]);
        let kustomize = Rendered::Kustomization.commands(&path, "shop");
        assert_eq!([&kustomize[0][0], &kustomize[1][0]], ["kubectl", "kustomize"]);
    }

    #[test]
    fn program_that_is_not_installed_is_not_found() {
        assert!(is_installed(&"sh".into()));
        assert!(!is_installed(&"no-such-program".into()));
    }
}
