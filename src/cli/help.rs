//! The help of `kindmesh` itself: its commands, grouped by purpose.

use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use super::Cli;

/// The groups and their commands. Every visible command is in exactly one of them.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Start here", &["up", "doctor", "env", "kubeconfig", "down"]),
    ("Call and change", &["call", "open", "ui", "apply", "unapply", "lint", "deploy", "image"]),
    ("Inspect", &["status", "list", "why", "verify", "bench", "logs", "timeline", "plan", "render", "bundle"]),
    ("Pause, stop, save", &["pause", "resume", "stop", "start", "snapshot"]),
    ("Learn and break", &["lab", "fault", "experiment"]),
    ("Maintain", &["cache", "offline", "schema", "completions", "help"]),
];

/// Returns the command line. Its top-level help lists commands by group, which clap does not support.
pub fn command() -> Command {
    let mut command = Cli::command();
    command.build(); // adds `help`
    let header = command.get_styles().get_header();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}{header}Options:{header:#}\n{{options}}{{after-help}}",
        groups(&command)
    );
    command.help_template(template)
}

/// Returns the lines of all groups, with an empty line after each group.
fn groups(command: &Command) -> String {
    let (header, literal) = (command.get_styles().get_header(), command.get_styles().get_literal());
    let width = command.get_subcommands().map(|command| command.get_name().len()).max().unwrap_or_default();
    let mut text = String::new();
    for (title, names) in GROUPS {
        let _ = writeln!(text, "{header}{title}:{header:#}");
        for command in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {literal}{:<width$}{literal:#}  {about}", command.get_name());
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_visible_command_is_in_one_group() {
        let mut command = Cli::command();
        command.build();
        let mut visible: Vec<_> =
            command.get_subcommands().filter(|command| !command.is_hide_set()).map(Command::get_name).collect();
        let mut grouped = GROUPS.map(|(_, names)| names).concat();
        visible.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(visible, grouped);
    }

    #[test]
    fn no_line_of_the_list_is_wider_than_80_columns() {
        let help = command().term_width(100).render_help().to_string();
        let list =
            help.lines().skip_while(|line| *line != "Start here:").take_while(|line| !line.starts_with("Options"));
        for line in list {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
