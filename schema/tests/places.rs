//! Every byte of a template stands where it says that it does.

mod kit;

use kit::document;
use proptest::prelude::*;
use schema::{Argument, Template};

/// The template of the only node of a file.
fn template(text: &str) -> Template {
    let document = document(text);
    match &document.graphs[0].output[0].value {
        Argument::Template(template) => template.clone(),
        Argument::Literal(literal) => panic!("a constant: {literal:?}"),
    }
}

/// A character of a template as written in a file, and what it means.
#[derive(Debug, Clone)]
struct Written {
    written: String,
    content: String,
}

fn character() -> impl Strategy<Value = Written> {
    let plain = prop::sample::select(vec![
        'a', 'z', ' ', '{', '}', '\'', 'é', '漢', '🦀', '\t', '%',
    ]);
    let escaped = prop::sample::select(vec![
        ("\\n", "\n"),
        ("\\t", "\t"),
        ("\\\\", "\\"),
        ("\\\"", "\""),
        ("\\s", " "),
        ("\\u{1F600}", "😀"),
        ("\\u{e9}", "é"),
        ("\\ ", ""),
        ("\\u{41}", "A"),
    ]);
    prop_oneof![
        4 => plain.prop_map(|c| Written { written: c.to_string(), content: c.to_string() }),
        1 => escaped.prop_map(|(written, content)| Written {
            written: written.to_owned(),
            content: content.to_owned(),
        }),
    ]
}

/// Checks each character of `template` against the place where the generator put it.
fn check(text: &str, template: &Template, characters: &[(usize, Written)]) {
    let mut offset = 0;
    for (place, Written { written, content }) in characters {
        if content.is_empty() {
            continue;
        }
        let end = offset + content.len();
        assert_eq!(&template.text()[offset..end], content);
        let span = template.place(offset..end);
        assert_eq!(
            span.range(),
            *place..place + written.len(),
            "{written:?} in {text:?}"
        );
        offset = end;
    }
    assert_eq!(offset, template.text().len());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_one_line(characters in prop::collection::vec(character(), 0..40)) {
        // `\ ` swallows all white space after it, which the generator would have to know.
        let characters: Vec<Written> = characters.into_iter().filter(|c| !c.content.is_empty()).collect();
        let mut text = "graph g { output { a \"{{".to_owned();
        let mut placed = vec![(text.len() - 2, open())];
        for character in characters {
            placed.push((text.len(), character.clone()));
            text += &character.written;
        }
        text += "\" } }";
        check(&text, &template(&text), &placed);
    }

    #[test]
    fn in_several_lines(
        lines in prop::collection::vec(prop::collection::vec(character(), 0..10), 1..6),
        indentation in prop::sample::select(vec!["", "  ", "\t \t", "        "]),
        line_break in prop::sample::select(vec!["\n", "\r\n", "\u{2028}", "\u{85}"]),
    ) {
        let mut text = format!("graph g {{ output {{ a \"\"\"{line_break}{indentation}{{{{");
        let mut placed = vec![(text.len() - 2, open())];
        for line in &lines {
            placed.push((text.len(), Written { written: line_break.to_owned(), content: "\n".to_owned() }));
            text += line_break;
            // A line of nothing but white space has no content, whatever its white space.
            let blank = line.iter().all(|c| c.written.chars().all(|c| matches!(c, ' ' | '\t')) || c.content.is_empty());
            if blank {
                continue;
            }
            text += indentation;
            for character in line.iter().filter(|c| !c.content.is_empty()) {
                placed.push((text.len(), character.clone()));
                text += &character.written;
            }
        }
        text += &format!("{line_break}{indentation}\"\"\" }} }}");
        check(&text, &template(&text), &placed);
    }

    #[test]
    fn in_raw_strings(
        characters in prop::collection::vec(prop::sample::select(vec!['a', '\\', '"', 'é', ' ', '{', 'n']), 1..40),
        several in any::<bool>(),
    ) {
        let (before, after) = if several { ("##\"\"\"\n   ", "\n   \"\"\"##") } else { ("##\"", "\"##") };
        let mut text = format!("graph g {{ output {{ a {before}{{{{");
        let mut placed = vec![(text.len() - 2, open())];
        for character in characters {
            let written = character.to_string();
            placed.push((text.len(), Written { written: written.clone(), content: written }));
            text.push(character);
        }
        text += &format!("{after} }} }}");
        check(&text, &template(&text), &placed);
    }
}

fn open() -> Written {
    Written {
        written: "{{".to_owned(),
        content: "{{".to_owned(),
    }
}

#[test]
fn swallowed_white_space_is_skipped() {
    let text = "graph g { output { a \"{{ a \\   \n   b }}\" } }";
    let template = template(text);
    assert_eq!(template.text(), "{{ a b }}");
    let place = template.place(5..6);
    assert_eq!(&text[place.range()], "b");
}
