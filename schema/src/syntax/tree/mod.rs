//! Tokens to nodes.

mod entry;

use super::{DEEPEST, Entry, LONGEST, Node, Token, TokenKind, Value, tokens};
use crate::{Diagnostic, Source, Span, Spanned, codes, problems::Problems};

/// The nodes of `source`; what cannot be read is reported and left out.
pub(crate) fn tree(source: &Source, problems: &mut Problems) -> Vec<Node> {
    if source.text.len() > LONGEST {
        problems.report(|| {
            let (name, bytes) = (&source.name, source.text.len());
            let message = format!("{name} has {bytes} bytes, and at most {LONGEST} are read");
            // Without a place: its line may be all of the file.
            Diagnostic::error(codes::TOO_LARGE, message, Span::default())
                .help("split it into several with `include`")
        });
        return Vec::new();
    }
    let tokens = tokens(source, problems);
    let mut parser = Parser {
        source,
        tokens,
        at: 0,
        depth: 0,
        without_end: 0,
        problems,
    };
    parser.nodes(None)
}

struct Parser<'a> {
    source: &'a Source,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// Up to here a template was looked through whose text does not go on to an end.
    without_end: usize,
    problems: &'a mut Problems,
}

impl Parser<'_> {
    fn peek(&self) -> Option<TokenKind> {
        self.tokens.get(self.at).map(|token| token.kind)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).copied();
        self.at += 1;
        token
    }

    fn eat(&mut self, kind: TokenKind) -> bool {
        let found = self.peek() == Some(kind);
        if found {
            self.at += 1;
        }
        found
    }

    fn span(&self, token: Token) -> Span {
        Span::new(self.source.id, token.start as usize, token.end as usize)
    }

    /// The place of the next token, or of the end of the text.
    fn here(&self) -> Span {
        match self.tokens.get(self.at) {
            Some(token) => self.span(*token),
            None => Span::new(
                self.source.id,
                self.source.text.len(),
                self.source.text.len(),
            ),
        }
    }

    fn written(&self, token: Token) -> &str {
        &self.source.text[token.range()]
    }

    fn problem(&mut self, span: Span, message: &str, help: &str) {
        self.problems
            .report(|| Diagnostic::error(codes::SYNTAX_ERROR, message, span).help(help));
    }

    /// Skips white space within a line; true if there was any.
    fn skip_space(&mut self) -> bool {
        let start = self.at;
        loop {
            match self.peek() {
                Some(TokenKind::Space | TokenKind::BlockComment) => self.at += 1,
                Some(TokenKind::Continuation) => self.continuation(),
                _ => return self.at > start,
            }
        }
    }

    fn continuation(&mut self) {
        let place = self.here();
        self.at += 1;
        while matches!(
            self.peek(),
            Some(TokenKind::Space | TokenKind::BlockComment | TokenKind::LineComment)
        ) {
            self.at += 1;
        }
        if !self.eat(TokenKind::Newline) && self.peek().is_some() {
            self.problem(
                place,
                "a `\\` that continues a line stands at its end",
                "remove it, or break the line after it",
            );
        }
    }

    /// Skips white space, line breaks and comments.
    fn skip_lines(&mut self) {
        while self.skip_space()
            || self.eat(TokenKind::Newline)
            || self.eat(TokenKind::LineComment)
            || self.eat(TokenKind::Bad)
        {}
    }

    /// Reads nodes up to the end of the text, or of the block that `opened` opens.
    fn nodes(&mut self, opened: Option<Span>) -> Vec<Node> {
        let mut nodes = Vec::new();
        loop {
            self.skip_lines();
            match (self.peek(), opened) {
                (None, None) => return nodes,
                (None, Some(opened)) => {
                    self.problem(opened, "a block is never closed", "close it with `}`");
                    return nodes;
                }
                (Some(TokenKind::Close), Some(_)) => {
                    self.at += 1;
                    return nodes;
                }
                (Some(TokenKind::Close), None) => {
                    let place = self.here();
                    self.at += 1;
                    self.problem(place, "no block is open here", "remove this `}`");
                }
                (Some(TokenKind::SlashDash), _) => {
                    self.at += 1;
                    self.skip_lines();
                    let _ = self.node();
                }
                _ => nodes.extend(self.node()),
            }
        }
    }

    /// Reads a node and what ends it. Always consumes something unless a block or the text ends.
    fn node(&mut self) -> Option<Node> {
        let start = self.here();
        let annotation = self.annotation();
        self.skip_space();
        let Some(name) = self.name() else {
            self.skip_node();
            return None;
        };
        let mut node = Node {
            annotation,
            span: Span {
                start: start.start,
                ..name.span
            },
            name,
            entries: Vec::new(),
            children: None,
        };
        self.rest_of_node(&mut node);
        Some(node)
    }

    fn name(&mut self) -> Option<Spanned<String>> {
        let place = self.here();
        let Some(token) = self.tokens.get(self.at).copied() else {
            self.problem(place, "a node is missing here", "write its name");
            return None;
        };
        let help = match token.kind {
            TokenKind::Word | TokenKind::Quoted | TokenKind::Raw | TokenKind::Keyword => {
                let (value, span) = self.plain_value()?;
                if let Value::Text(text) = value {
                    return Some(Spanned::new(text.text, span));
                }
                "a name is a word, or a text in quotes"
            }
            TokenKind::Open => "write the block's name before its `{`",
            TokenKind::Semicolon => "remove this `;`",
            _ => "write a name first",
        };
        self.problem(place, "a name must stand here", help);
        None
    }

    /// Reads values, properties and children up to what ends the node.
    fn rest_of_node(&mut self, node: &mut Node) {
        let mut after_stray = false;
        loop {
            let mut spaced = self.skip_space() || std::mem::take(&mut after_stray);
            let switched_off = self.eat(TokenKind::SlashDash);
            if switched_off {
                self.skip_lines();
                spaced = true;
            }
            let place = self.here();
            match self.peek() {
                Some(TokenKind::Open) => self.children(node, switched_off),
                _ if switched_off && self.at_end_of_node() => {
                    self.problem(place, "`/-` switches nothing off here", "remove it");
                    return self.end_node();
                }
                None
                | Some(
                    TokenKind::Newline
                    | TokenKind::LineComment
                    | TokenKind::Semicolon
                    | TokenKind::Close,
                ) => return self.end_node(),
                Some(
                    TokenKind::Word
                    | TokenKind::Keyword
                    | TokenKind::Quoted
                    | TokenKind::Raw
                    | TokenKind::OpenParenthesis,
                ) => {
                    if !spaced {
                        self.problem(
                            place,
                            "a space is missing here",
                            "values are separated by white space",
                        );
                    }
                    if let Some(entry) = self.entry()
                        && !switched_off
                    {
                        self.add(node, entry, place);
                    }
                }
                Some(_) => {
                    self.stray();
                    after_stray = true;
                }
            }
        }
    }

    fn add(&mut self, node: &mut Node, entry: Entry, place: Span) {
        if node.children.is_some() {
            self.problem(
                place,
                "a value stands after the block of its node",
                "write it before the `{`, or end the line after the `}`",
            );
        }
        node.span.end = node.span.end.max(entry.span.end);
        node.entries.push(entry);
    }

    fn at_end_of_node(&self) -> bool {
        matches!(
            self.peek(),
            None | Some(TokenKind::Semicolon | TokenKind::Close)
        )
    }

    fn end_node(&mut self) {
        // A line comment ends a node too; it is skipped with the lines between nodes.
        if matches!(self.peek(), Some(TokenKind::Newline | TokenKind::Semicolon)) {
            self.at += 1;
        }
    }

    fn stray(&mut self) {
        let Some(token) = self.next() else { return };
        let place = self.span(token);
        match token.kind {
            TokenKind::Equals => self.problem(
                place,
                "there is no key before this `=`",
                "write `key=value` for a property, or `name value` on a line of its own",
            ),
            TokenKind::Bad => {}
            _ => self.problem(place, "this cannot stand here", "remove it"),
        }
    }

    fn children(&mut self, node: &mut Node, switched_off: bool) {
        let opened = self.here();
        self.at += 1;
        if self.depth == DEEPEST {
            self.problems.report(|| {
                let message = format!("blocks are nested more than {DEEPEST} deep");
                Diagnostic::error(codes::TOO_DEEP, message, opened)
                    .help("no block of this language needs more than a few levels")
            });
            self.skip_block();
            return;
        }
        self.depth += 1;
        let children = self.nodes(Some(opened));
        self.depth -= 1;
        if switched_off {
            return;
        }
        if node.children.is_some() {
            self.problem(
                opened,
                "a node has one block",
                "end the line after the `}` before",
            );
        }
        let closed = self.tokens.get(self.at.wrapping_sub(1));
        node.span.end = closed.map_or(self.source.text.len() as u32, |token| token.end);
        node.children.get_or_insert_default().extend(children);
    }

    /// Skips what is left of a node that cannot be read, its block included.
    fn skip_node(&mut self) {
        loop {
            match self.peek() {
                Some(TokenKind::Open) => {
                    self.at += 1;
                    self.skip_block();
                }
                None | Some(TokenKind::Newline | TokenKind::Semicolon | TokenKind::Close) => {
                    return self.end_node();
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// Skips to the end of the block that is open.
    fn skip_block(&mut self) {
        let mut depth = 1;
        while depth > 0 {
            match self.next().map(|token| token.kind) {
                Some(TokenKind::Open) => depth += 1,
                Some(TokenKind::Close) => depth -= 1,
                None => return,
                Some(_) => {}
            }
        }
    }
}

/// `text`, cut to what fits into a message.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
