//! Which characters are what in KDL.

/// Length in bytes of the line break at the start of `text`; 0 if there is none.
pub(super) fn newline(text: &str) -> usize {
    match text.as_bytes() {
        [b'\r', b'\n', ..] => 2,
        [b'\r' | b'\n' | 0x0B | 0x0C, ..] => 1,
        [0xC2, 0x85, ..] => 2,
        [0xE2, 0x80, 0xA8 | 0xA9, ..] => 3,
        _ => 0,
    }
}

/// Whether `character` is white space within a line.
pub(super) fn is_space(character: char) -> bool {
    matches!(
        character,
        '\t' | ' ' | '\u{A0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}'
    )
}

/// Whether `character` breaks a line; `\r\n` is one line break of two such characters.
pub(super) fn is_newline(character: char) -> bool {
    matches!(
        character,
        '\n' | '\r' | '\u{0B}' | '\u{0C}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// Whether `character` may stand nowhere in a file: control characters and those that turn the
/// direction of writing, which would let a file look different from what it says.
pub(super) fn is_forbidden(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{08}'
            | '\u{0E}'..='\u{1F}'
            | '\u{7F}'
            | '\u{200E}'..='\u{200F}'
            | '\u{202A}'..='\u{202E}'
            | '\u{2066}'..='\u{2069}'
            | '\u{FEFF}'
    )
}

/// Whether `character` may be part of a bare word.
pub(super) fn is_word(character: char) -> bool {
    !matches!(
        character,
        '\\' | '/' | '(' | ')' | '{' | '}' | '[' | ']' | ';' | '"' | '#' | '='
    ) && !is_space(character)
        && !is_newline(character)
        && !is_forbidden(character)
}

/// Whether `text` has a line break in it.
pub(crate) fn has_newline(text: &str) -> bool {
    text.contains(is_newline)
}

/// Whether `line` is nothing but white space.
pub(crate) fn is_blank(line: &str) -> bool {
    line.chars().all(is_space)
}

/// The lines of `text` without their line breaks; one more than there are line breaks.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.find(is_newline);
        rest = end.map(|end| &text[end + newline(&text[end..])..]);
        Some(&text[..end.unwrap_or(text.len())])
    })
}
