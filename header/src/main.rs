//! Generates the C header from `src/ffi.rs`: `make header` puts it into `include/`, where it is committed. A package of
//! its own, so that nobody who builds the library has to compile cbindgen.
//!
//!     cargo run --package header -- include/ic_listener.h

use std::error::Error;
use std::fs;
use std::path::Path;

use textwrap::{Options, WordSplitter};

/// Where comments and declarations are wrapped.
const WIDTH: usize = 80;

fn main() -> Result<(), Box<dyn Error>> {
    let output = std::env::args().nth(1).ok_or("usage: header FILE")?;
    // In one step, so that nobody ever sees half a header.
    let new = format!("{output}.new");
    fs::write(&new, header()?)?;
    Ok(fs::rename(new, output)?)
}

fn header() -> Result<String, Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config::from_file(here.join("cbindgen.toml"))?;
    config.line_length = WIDTH;
    config.after_includes = Some(version_macros(&here.join("../Cargo.toml"))? + INITIALIZERS);
    let mut header = Vec::new();
    let source = here.join("../src/ffi.rs");
    cbindgen::Builder::new().with_config(config).with_src(source).generate()?.write(&mut header);
    Ok(in_c_terms(&String::from_utf8(header)?))
}

/// Macros that cbindgen cannot make from Rust; they are used after the structs are declared.
const INITIALIZERS: &str = r#"

/*
 * The default options: IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
 */
#define IC_LISTENER_OPTIONS_INIT { sizeof(IcListenerOptions), NULL, 0, 0, 0, 0 }

/*
 * A report to be filled: IcListenerReport report = IC_LISTENER_REPORT_INIT;
 */
#define IC_LISTENER_REPORT_INIT \
    { sizeof(IcListenerReport), 0, IC_LISTENER_STEP_NONE, 0, IC_LISTENER_PORT_ORIGIN_NONE, \
      0, 0, 0, 0, 0, 0, 0, "", \
      IC_LISTENER_CENSUS_SOURCE_NONE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/*
 * A census to be filled: IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
 */
#define IC_LISTENER_CENSUS_INIT \
    { sizeof(IcListenerCensus), 0, IC_LISTENER_CENSUS_SOURCE_NONE, 0, 0, 0, \
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "" }"#;

fn version_macros(manifest: &Path) -> Result<String, Box<dyn Error>> {
    let manifest: toml::Table = fs::read_to_string(manifest)?.parse()?;
    let version = manifest["package"]["version"].as_str().ok_or("the version is a string")?;
    let [major, minor, patch] = version.split('.').collect::<Vec<_>>()[..] else {
        return Err("the version has three numbers".into());
    };
    Ok(format!(
        "\n/*\n * The version of this header; ic_listener_version() is the one of the library that is linked.\n */\n\
         #define IC_LISTENER_VERSION \"{version}\"\n\
         #define IC_LISTENER_VERSION_MAJOR {major}\n\
         #define IC_LISTENER_VERSION_MINOR {minor}\n\
         #define IC_LISTENER_VERSION_PATCH {patch}"
    ))
}

/// Comments as PostgreSQL writes them, and the heading that Rust wants over a function's preconditions in a C reader's
/// words.
fn in_c_terms(header: &str) -> String {
    let mut output = String::new();
    let mut lines = header.lines();
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        match line.trim_start() {
            "/**" | "/*" if output.is_empty() => output += "/*\n",
            "/**" | "/*" => {
                let text = lines.by_ref().map(str::trim_start).take_while(|line| *line != "*/");
                let text: Vec<_> = text.map(|line| line.trim_start_matches('*').trim_end()).collect();
                output += &comment(indent, &text);
            }
            _ => {
                let line = line.replace(" // __cplusplus", " /* __cplusplus */");
                output += &line.replace(" // extern \"C\"", " /* extern \"C\" */");
                output.push('\n');
            }
        }
    }
    output
}

/// A comment, its lines given without the asterisk: each starts with a space. It is one line where that is enough.
fn comment(indent: &str, lines: &[&str]) -> String {
    let paragraphs = paragraphs(lines);
    if let [text] = &paragraphs[..] {
        let line = format!("{indent}/* {} */\n", text.trim());
        if line.len() <= WIDTH {
            return line;
        }
    }
    let mut comment = format!("{indent}/*\n");
    for paragraph in paragraphs {
        if paragraph.is_empty() {
            comment += &format!("{indent} *\n");
            continue;
        }
        let first = format!("{indent} *{}", &paragraph[..leading_spaces(&paragraph)]);
        let next = format!("{indent} *{}", " ".repeat(hanging_indent(&paragraph)));
        let options = Options::new(WIDTH)
            .initial_indent(&first)
            .subsequent_indent(&next)
            .word_splitter(WordSplitter::NoHyphenation)
            .break_words(false);
        comment += &textwrap::fill(paragraph.trim_start(), options);
        comment.push('\n');
    }
    comment + indent + " */\n"
}

/// Joins what was wrapped in the source: lines of running text, and the lines of one item of a list, which are indented
/// more than its first one. An empty line is a paragraph of its own.
fn paragraphs(lines: &[&str]) -> Vec<String> {
    let mut paragraphs: Vec<String> = Vec::new();
    let mut lines = lines.iter();
    while let Some(line) = lines.next() {
        if *line == " # Safety" {
            // What it says follows an empty line; where that only points to another function, the text has said so.
            let rest: Vec<_> = lines.by_ref().filter(|line| !line.is_empty()).map(|line| line.trim()).collect();
            let rest = rest.join(" ");
            if rest.starts_with("As for ") {
                paragraphs.pop();
            } else {
                paragraphs.push(format!(" Pointers: {rest}"));
            }
            break;
        }
        let spaces = leading_spaces(line);
        match paragraphs.last_mut() {
            Some(last) if !line.is_empty() && !last.is_empty() && goes_on(last, spaces) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => paragraphs.push((*line).to_owned()),
        }
    }
    paragraphs
}

/// Whether a line with so many spaces in front continues `paragraph`: running text with one, an item with more than it
/// has.
fn goes_on(paragraph: &str, spaces: usize) -> bool {
    let first = leading_spaces(paragraph);
    if first == 1 { spaces == 1 } else { spaces > first }
}

fn leading_spaces(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Where the further lines of a paragraph start: in a list, below the text that follows `-`, or a name and two spaces.
fn hanging_indent(paragraph: &str) -> usize {
    const WIDEST_NAME: usize = 17;
    let first = leading_spaces(paragraph);
    let item = paragraph.trim_start();
    if first == 1 {
        first
    } else if item.starts_with("- ") {
        first + 2
    } else {
        let name = item.find("  ").unwrap_or(0);
        let gap = item[name..].len() - item[name..].trim_start().len();
        first + (name + gap).min(WIDEST_NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_header_is_fresh() {
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/ic_listener.h");
        let committed = fs::read_to_string(committed).expect("it is committed");
        let generated = header().expect("src/ffi.rs has a C header");
        assert!(generated == committed, "include/ic_listener.h is stale: run `make header` and commit what it changed");
    }

    #[test]
    fn no_line_is_too_wide() {
        let header = header().expect("src/ffi.rs has a C header");
        // What is written by hand, such as INITIALIZERS, may be a little wider.
        let wide: Vec<_> = header.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(wide.is_empty(), "{wide:#?}");
    }

    #[test]
    fn comments_are_wrapped_and_lists_keep_their_columns() {
        let source = "#define A 1\n\
            /**\n * One line.\n */\n\
            int a(void);\n\
            /**\n * Running text that is wrapped in the source, and here is not wrapped where it was there, but\n * here.\n *\n \
            * On failure:\n \
            *   EINVAL  an option that cannot be used, which is told at such length that it takes\n *           two lines\n \
            *   - an item of a list that is long enough for two lines of a header that is so narrow\n \
            *\n * # Safety\n *\n * a is NULL\n * or not.\n */\n\
            int b(int *a);\n\
            /**\n * As a().\n *\n * # Safety\n *\n * As for [`b`].\n */\n\
            int c(int *a);\n";
        let header = "#define A 1\n\
            /* One line. */\n\
            int a(void);\n\
            /*\n * Running text that is wrapped in the source, and here is not wrapped where it\n * was there, but here.\n *\n \
            * On failure:\n \
            *   EINVAL  an option that cannot be used, which is told at such length that it\n *           takes two lines\n \
            *   - an item of a list that is long enough for two lines of a header that is\n *     so narrow\n \
            *\n * Pointers: a is NULL or not.\n */\n\
            int b(int *a);\n\
            /* As a(). */\n\
            int c(int *a);\n";
        assert_eq!(in_c_terms(source), header);
    }
}
