//! A self-contained HTML page: to attach to a ticket, to keep with a build, to print.

/// Returns an HTML document with `main` as its content, without scripts and without external resources. `title`,
/// `style` and `main` are not escaped: escape what comes from a cluster first.
pub(super) fn document(title: &str, style: &str, main: &str) -> String {
    // The policy keeps a browser from loading or running anything, whatever the page contains.
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{main}</main>
</body>
</html>
"#
    )
}
