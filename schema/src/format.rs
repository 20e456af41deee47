//! One way to lay out a file.
//!
//! Four spaces a level, one node a line, at most one blank line; a block that its author wrote on
//! one line stays on one line. Words, strings and comments are kept as they are, except that the
//! lines of a multi-line string move with their block. The formatter knows tokens and braces and
//! not what a node means, so it works on files that do not check.

use crate::{
    Diagnostic, Source,
    problems::Problems,
    syntax::{self, Token, TokenKind},
};

/// `source` laid out anew. Formatting twice changes nothing, and what the file says is the same.
///
/// # Errors
///
/// The problems of the syntax, if there are any: a text that cannot be read is not touched.
pub fn format(source: &Source) -> Result<String, Vec<Diagnostic>> {
    let mut problems = Problems::default();
    syntax::tree(source, &mut problems);
    if !problems.is_empty() {
        return Err(problems.into_list());
    }
    let tokens = syntax::tokens(source, &mut problems);
    let mut printer = Printer {
        text: &source.text,
        one_line: one_line_blocks(&source.text, &tokens),
        out: String::with_capacity(source.text.len()),
        blocks: Vec::new(),
        last: None,
        line_breaks: 0,
        must_break: false,
        continued: None,
    };
    for (index, token) in tokens.iter().enumerate() {
        printer.token(index, *token);
    }
    Ok(printer.finish())
}

/// For each `{`, by its position among the tokens, whether its `}` is on the same line.
fn one_line_blocks(text: &str, tokens: &[Token]) -> Vec<bool> {
    let mut one_line = vec![false; tokens.len()];
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut line = 0;
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Open => open.push((index, line)),
            TokenKind::Close => {
                if let Some((opened, on_line)) = open.pop() {
                    one_line[opened] = on_line == line;
                }
            }
            _ if syntax::has_newline(&text[token.range()]) => line += 1,
            _ => {}
        }
    }
    one_line
}

struct Printer<'a> {
    text: &'a str,
    one_line: Vec<bool>,
    out: String,
    /// For each open block, whether it stays on one line.
    blocks: Vec<bool>,
    /// The last token that was printed.
    last: Option<TokenKind>,
    /// Line breaks since then.
    line_breaks: usize,
    /// Whether what comes next begins a line even without a line break before it.
    must_break: bool,
    /// Lines were broken with `\`, with these comments after it; printed once something follows.
    continued: Option<Vec<&'a str>>,
}

impl<'a> Printer<'a> {
    fn token(&mut self, index: usize, token: Token) {
        let text = &self.text[token.range()];
        match token.kind {
            TokenKind::Space | TokenKind::Bad => {}
            TokenKind::Newline => self.newline(),
            TokenKind::Continuation => self.continuation(),
            TokenKind::LineComment => self.line_comment(text),
            TokenKind::Semicolon => self.semicolon(),
            TokenKind::Open => {
                self.place(token.kind);
                self.out.push('{');
                let one_line = self.one_line[index];
                self.blocks.push(one_line);
                self.must_break = !one_line;
            }
            TokenKind::Close => self.close(),
            TokenKind::Quoted | TokenKind::Raw => {
                self.place(token.kind);
                self.string(text, token.kind);
            }
            _ => {
                self.place(token.kind);
                self.out.push_str(text);
            }
        }
    }

    fn newline(&mut self) {
        match self.continued {
            // The line break that the `\` is for.
            Some(_) if self.line_breaks == 0 => self.line_breaks = 1,
            Some(_) => self.end_continued(),
            None if self.last == Some(TokenKind::SlashDash) => {}
            None => self.line_breaks += 1,
        }
    }

    /// The continued line is empty, so the node ends without the `\`; its comments stay.
    fn end_continued(&mut self) {
        for (index, comment) in self.continued.take().into_iter().flatten().enumerate() {
            self.line_breaks = usize::from(index > 0);
            self.line_comment(comment);
        }
        self.line_breaks = 1;
    }

    fn continuation(&mut self) {
        let after = self.last.filter(|last| *last != TokenKind::SlashDash);
        if self.continued.is_some() {
            // A further line is continued.
            self.line_breaks = 0;
        } else if after.is_some() && self.line_breaks == 0 && !self.must_break {
            self.continued = Some(Vec::new());
        } else {
            // Between nodes it only breaks a line, which the line break after it does as well.
            self.must_break |= after.is_some();
        }
    }

    fn line_comment(&mut self, text: &'a str) {
        let text = text.trim_end();
        match &mut self.continued {
            Some(comments) if self.line_breaks == 0 => return comments.push(text),
            // The continued line is empty but for this.
            Some(_) => self.end_continued(),
            None => {}
        }
        if self.line_breaks == 0 && self.last.is_some() {
            self.out.push(' ');
            self.last = Some(TokenKind::LineComment);
        } else {
            self.place(TokenKind::LineComment);
        }
        self.out.push_str(text);
        self.must_break = true;
    }

    fn semicolon(&mut self) {
        if self.continued.is_some() {
            self.end_continued();
            self.line_breaks = 0;
        }
        match self.blocks.last() {
            Some(true) => self.last = Some(TokenKind::Semicolon),
            _ => self.must_break = true,
        }
    }

    fn close(&mut self) {
        let one_line = self.blocks.pop().unwrap_or_default();
        let empty = self.last == Some(TokenKind::Open);
        if self.continued.is_some() {
            self.end_continued();
        }
        if !empty && one_line {
            self.out.push(' ');
        } else if !empty {
            self.out.push('\n');
            self.indent(self.depth());
        }
        self.out.push('}');
        self.last = Some(TokenKind::Close);
        self.line_breaks = 0;
        self.must_break = false;
    }

    /// Blocks around that are not on one line.
    fn depth(&self) -> usize {
        self.blocks.iter().filter(|one_line| !**one_line).count()
    }

    fn indent(&mut self, depth: usize) {
        for _ in 0..depth {
            self.out.push_str("    ");
        }
    }

    /// Prints what stands between the last token and one of this kind.
    fn place(&mut self, kind: TokenKind) {
        let (last, line_breaks) = (self.last, self.line_breaks);
        if let Some(comments) = self.continued.take() {
            self.continue_line(&comments);
        } else if last.is_none() {
        } else if line_breaks > 0 || self.must_break {
            self.out.push('\n');
            if line_breaks > 1 && last != Some(TokenKind::Open) {
                self.out.push('\n');
            }
            self.indent(self.depth());
        } else if last == Some(TokenKind::Semicolon) {
            self.out.push_str("; ");
        } else if separated(last, kind) {
            self.out.push(' ');
        }
        self.last = Some(kind);
        self.line_breaks = 0;
        self.must_break = false;
    }

    fn continue_line(&mut self, comments: &[&str]) {
        let bare: &[&str] = &[""];
        for comment in if comments.is_empty() { bare } else { comments } {
            let line = format!(" \\ {comment}");
            self.out.push_str(line.trim_end());
            self.out.push('\n');
            self.indent(self.depth() + 1);
        }
    }

    /// Prints a string; the lines of a multi-line one are indented one level more than their node.
    fn string(&mut self, written: &str, kind: TokenKind) {
        let hashes = written.bytes().take_while(|byte| *byte == b'#').count();
        let multi_line = written[hashes..].starts_with("\"\"\"");
        let moves = kind == TokenKind::Raw || !syntax::has_space_escape(written);
        let lines: Vec<&str> = syntax::lines(written).collect();
        let (Some((first, rest)), true) = (lines.split_first(), multi_line && moves) else {
            self.out.push_str(written);
            return;
        };
        let Some((closing, body)) = rest.split_last() else {
            self.out.push_str(written);
            return;
        };
        let indentation = &closing[..closing.len() - closing.trim_start().len()];
        let depth = self.depth() + 1;
        self.out.push_str(first);
        for line in body {
            self.out.push('\n');
            if !syntax::is_blank(line) {
                self.indent(depth);
                self.out
                    .push_str(line.strip_prefix(indentation).unwrap_or(line));
            }
        }
        self.out.push('\n');
        self.indent(depth);
        self.out.push_str(closing.trim_start());
    }

    fn finish(mut self) -> String {
        self.end_continued();
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out
    }
}

/// Whether white space stands between two tokens of a line.
fn separated(last: Option<TokenKind>, next: TokenKind) -> bool {
    use TokenKind::{CloseParenthesis, Equals, OpenParenthesis, SlashDash};
    let opens = matches!(
        last,
        Some(OpenParenthesis | CloseParenthesis | Equals | SlashDash)
    );
    !opens && !matches!(next, CloseParenthesis | Equals)
}
