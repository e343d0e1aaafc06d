//! Commands to type next, as hints of errors name them.

/// The command that makes or repairs an environment.
pub fn up_hint(name: &str) -> String {
    command_on("up", name)
}

/// The command that removes an environment.
pub fn down_hint(name: &str) -> String {
    command_on("down", name)
}

/// The command that brings a frozen environment back.
pub fn resume_hint(name: &str) -> String {
    command_on("resume", name)
}

/// The command that brings a stopped environment back.
pub fn start_hint(name: &str) -> String {
    command_on("start", name)
}

fn command_on(command: &str, name: &str) -> String {
    match name {
        "kindmesh" => format!("kindmesh {command}"),
        _ => format!("kindmesh {command} --name {name}"),
    }
}
