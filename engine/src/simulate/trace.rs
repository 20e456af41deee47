//! A load over time, as a table that people write or export: when requests come.
//!
//! The first line names the columns. `time,rate` is a load in requests a second: each line holds
//! until the next, and the last one is the end. `time,requests` is a number of requests
//! at a time, and `time` alone one request a line. Times are in seconds and ascend; empty lines and
//! lines that begin with `#` mean nothing.

use super::random::Random;
use schema::{Diagnostic, Source, Span, codes};
use std::time::Duration;

/// When requests come.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    load: Load,
    /// When it is over.
    end: Duration,
}

#[derive(Debug, Clone, PartialEq)]
enum Load {
    /// From when on how many requests come a second.
    Rates(Vec<(Duration, f64)>),
    /// When how many requests come.
    Arrivals(Vec<(Duration, u64)>),
}

/// How requests follow each other where a trace says how many come a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// At random, as requests of people who do not know of each other come: a Poisson process.
    Random {
        /// The same seed gives the same arrivals.
        seed: u64,
    },
    /// Evenly.
    Even,
}

/// The most requests that are simulated.
const MOST: f64 = 5e6;

/// The latest time, in seconds: ten years. Later ones are mistakes.
const LATEST: f64 = 3_660.0 * 86_400.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Columns {
    Rates,
    Counts,
    Times,
}

impl Trace {
    /// Reads a table.
    ///
    /// # Errors
    /// Every line that is not right.
    pub fn parse(source: &Source) -> Result<Self, Vec<Diagnostic>> {
        let mut lines = lines(source);
        let problem = |message: &str| Diagnostic::error(codes::BAD_TRACE, message, whole(source));
        let Some((place, head)) = lines.next() else {
            return Err(vec![
                problem("the trace is empty").help("begin with `time,rate`, then a line a change"),
            ]);
        };
        let mut problems = Vec::new();
        let columns = columns(head).unwrap_or_else(|message| {
            problems.push(
                Diagnostic::error(codes::BAD_TRACE, message, place)
                    .help("name the columns: `time,rate`, `time,requests` or `time`"),
            );
            // The likeliest, so that the other lines are looked at too.
            Columns::Rates
        });
        let mut rows = Vec::new();
        let mut last: Option<f64> = None;
        for (place, line) in lines {
            match row(line, columns) {
                Ok((time, _)) if last.is_some_and(|last| time < last) => problems.push(
                    Diagnostic::error(
                        codes::BAD_TRACE,
                        "a time before that of the last line",
                        place,
                    )
                    .help("put the lines in the order of their times"),
                ),
                Ok((time, value)) => {
                    last = Some(time);
                    rows.push((time, value));
                }
                Err((message, help)) => {
                    problems.push(Diagnostic::error(codes::BAD_TRACE, message, place).help(help));
                }
            }
        }
        if problems.is_empty() {
            let enough = if columns == Columns::Rates { 2 } else { 1 };
            if rows.len() < enough {
                problems.push(problem("the trace has too few lines").help(match columns {
                    Columns::Rates => "write at least two: the last line is the end",
                    _ => "write a line for each time at which requests come",
                }));
            } else if requests(&rows, columns) > MOST {
                let message = format!("the trace has more than {MOST} requests");
                problems.push(problem(&message).help("cut it into parts"));
            }
        }
        match problems.is_empty() {
            true => Ok(Self::new(&rows, columns)),
            false => Err(problems),
        }
    }

    fn new(rows: &[(f64, f64)], columns: Columns) -> Self {
        let at = |(time, value): &(f64, f64)| (Duration::from_secs_f64(*time), *value);
        match columns {
            Columns::Rates => Self {
                load: Load::Rates(rows.iter().map(at).collect()),
                end: Duration::from_secs_f64(rows.last().map_or(0.0, |(time, _)| *time)),
            },
            Columns::Counts | Columns::Times => {
                let rows = rows.iter().map(at);
                let rows: Vec<_> = rows.map(|(time, count)| (time, count as u64)).collect();
                Self {
                    end: rows.last().map_or(Duration::ZERO, |(time, _)| *time),
                    load: Load::Arrivals(rows),
                }
            }
        }
    }

    /// When it is over; requests may still be under way then.
    pub fn end(&self) -> Duration {
        self.end
    }

    /// The times of the requests, ascending.
    pub fn arrivals(&self, spacing: Spacing) -> Vec<Duration> {
        match &self.load {
            Load::Arrivals(rows) => {
                let rows = rows.iter();
                let times = rows.flat_map(|(time, count)| (0..*count).map(|_| *time));
                times.collect()
            }
            Load::Rates(steps) => spread(steps, self.end, spacing),
        }
    }
}

/// Turns rates into times: a request comes whenever the sum of the load has grown by the next gap,
/// so that a gap goes on across a change of the rate.
fn spread(steps: &[(Duration, f64)], end: Duration, spacing: Spacing) -> Vec<Duration> {
    let mut random = match spacing {
        Spacing::Random { seed } => Some(Random::new(seed)),
        Spacing::Even => None,
    };
    let mut gap = move || match &mut random {
        Some(random) => random.exponential(),
        None => 1.0,
    };
    let mut times = Vec::new();
    let mut left = gap();
    for (index, (start, rate)) in steps.iter().enumerate() {
        let until = steps.get(index + 1).map_or(end, |(next, _)| *next);
        let (mut now, until) = (start.as_secs_f64(), until.as_secs_f64());
        while *rate > 0.0 && now + left / rate < until {
            now += left / rate;
            times.push(Duration::from_secs_f64(now));
            left = gap();
        }
        left -= (until - now) * rate;
        // Rounding must not turn the rest of a gap into a time that has passed.
        left = left.max(0.0);
    }
    times
}

/// The lines that mean something, without white space around them, and their places.
fn lines(source: &Source) -> impl Iterator<Item = (Span, &str)> {
    let mut start = 0;
    let all = source.text.split_inclusive('\n').map(move |line| {
        let indent = line.len() - line.trim_start().len();
        let text = line.trim();
        let from = start + indent;
        start += line.len();
        (Span::new(source.id, from, from + text.len()), text)
    });
    all.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'))
}

fn whole(source: &Source) -> Span {
    let first = source.text.lines().next().map_or(0, str::len);
    Span::new(source.id, 0, first)
}

fn columns(head: &str) -> Result<Columns, String> {
    let names: Vec<_> = head.split(',').map(str::trim).collect();
    match names.as_slice() {
        ["time", "rate"] => Ok(Columns::Rates),
        ["time", "requests"] => Ok(Columns::Counts),
        ["time"] => Ok(Columns::Times),
        _ if names.iter().all(|name| name.parse::<f64>().is_ok()) => {
            Err("the first line does not name the columns".to_owned())
        }
        _ => Err(format!("unknown columns \"{head}\"")),
    }
}

/// The time and the value of a line, or what is wrong with it and what to do.
fn row(line: &str, columns: Columns) -> Result<(f64, f64), (String, &'static str)> {
    let fields: Vec<_> = line.split(',').map(str::trim).collect();
    let wanted = if columns == Columns::Times { 1 } else { 2 };
    if fields.len() != wanted {
        let s = if fields.len() == 1 { "" } else { "s" };
        let message = format!("{} value{s} instead of {wanted}", fields.len());
        return Err((message, "write as many values as the first line names"));
    }
    let number = |text: &str| {
        let number = text.parse::<f64>().ok();
        number.filter(|number| number.is_finite() && *number >= 0.0)
    };
    let help = "write a number that is not negative, such as 12.5";
    let time = number(fields[0]).filter(|time| *time <= LATEST);
    let time = time.ok_or_else(|| (format!("\"{}\" is not a time in seconds", fields[0]), help))?;
    let Some(text) = fields.get(1) else {
        return Ok((time, 1.0));
    };
    let value = number(text);
    let value = value.ok_or_else(|| (format!("\"{text}\" is not a number of requests"), help))?;
    if columns == Columns::Counts && value.fract() != 0.0 {
        let message = format!("\"{text}\" is not a whole number of requests");
        return Err((
            message,
            "for requests a second, name the columns `time,rate`",
        ));
    }
    Ok((time, value))
}

/// How many requests the rows come to, about.
fn requests(rows: &[(f64, f64)], columns: Columns) -> f64 {
    match columns {
        Columns::Counts | Columns::Times => rows.iter().map(|(_, count)| count).sum(),
        Columns::Rates => {
            let ends = rows.iter().skip(1).map(|(time, _)| *time);
            let parts = rows.iter().zip(ends);
            parts.map(|((start, rate), end)| (end - start) * rate).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Style, human};
    use expect_test::expect;
    use schema::Sources;

    fn parse(text: &str) -> Result<Trace, String> {
        let mut sources = Sources::default();
        let id = sources.add("trace.csv", text);
        let style = Style {
            colours: false,
            width: 80,
        };
        let parsed = Trace::parse(sources.get(id).unwrap());
        parsed.map_err(|problems| human(&problems, &sources, style))
    }

    fn times(text: &str, spacing: Spacing) -> Vec<f64> {
        let arrivals = parse(text).unwrap().arrivals(spacing);
        arrivals.iter().map(Duration::as_secs_f64).collect()
    }

    #[test]
    fn rates_hold_until_the_next_line() {
        let trace = "time,rate\n0, 2\n\n# a pause\n2,0\n3,4\n4,4\n";
        assert_eq!(
            times(trace, Spacing::Even),
            [0.5, 1.0, 1.5, 3.0, 3.25, 3.5, 3.75]
        );
        assert_eq!(parse(trace).unwrap().end(), Duration::from_secs(4));
    }

    #[test]
    fn requests_come_at_their_times() {
        let trace = "time,requests\n1,2\n2.5,1\n";
        assert_eq!(times(trace, Spacing::Even), [1.0, 1.0, 2.5]);
        assert_eq!(times("time\n1\n1.5\n", Spacing::Even), [1.0, 1.5]);
    }

    #[test]
    fn random_arrivals_are_those_of_the_seed_and_as_many_as_asked_for() {
        let trace = "time,rate\n0,100\n100,0\n";
        let first = times(trace, Spacing::Random { seed: 1 });
        assert_eq!(first, times(trace, Spacing::Random { seed: 1 }));
        assert_ne!(first, times(trace, Spacing::Random { seed: 2 }));
        assert!((9_700..10_300).contains(&first.len()), "{}", first.len());
        assert!(first.is_sorted());
    }

    #[test]
    fn every_bad_line_is_shown() {
        let text = "time,rate\n0,5\nsoon,5\n10,-1\n9,1,2\n8,1\n12,many\n";
        expect![[r#"
            bad-trace

              × "soon" is not a time in seconds
               ╭─[trace.csv:3:1]
             2 │ 0,5
             3 │ soon,5
               · ──────
             4 │ 10,-1
               ╰────
              help: write a number that is not negative, such as 12.5

            bad-trace

              × "-1" is not a number of requests
               ╭─[trace.csv:4:1]
             3 │ soon,5
             4 │ 10,-1
               · ─────
             5 │ 9,1,2
               ╰────
              help: write a number that is not negative, such as 12.5

            bad-trace

              × 3 values instead of 2
               ╭─[trace.csv:5:1]
             4 │ 10,-1
             5 │ 9,1,2
               · ─────
             6 │ 8,1
               ╰────
              help: write as many values as the first line names

            bad-trace

              × "many" is not a number of requests
               ╭─[trace.csv:7:1]
             6 │ 8,1
             7 │ 12,many
               · ───────
               ╰────
              help: write a number that is not negative, such as 12.5

        "#]]
        .assert_eq(&parse(text).unwrap_err());
    }

    #[test]
    fn a_trace_without_columns_or_lines_says_what_it_lacks() {
        expect![[r#"
            bad-trace

              × the first line does not name the columns
               ╭─[trace.csv:1:1]
             1 │ 0,5
               · ───
             2 │ 1,6
               ╰────
              help: name the columns: `time,rate`, `time,requests` or `time`

        "#]]
        .assert_eq(&parse("0,5\n1,6\n").unwrap_err());
        expect![[r#"
            bad-trace

              × the trace has too few lines
               ╭─[trace.csv:1:1]
             1 │ time,rate
               · ─────────
             2 │ 0,5
               ╰────
              help: write at least two: the last line is the end

        "#]]
        .assert_eq(&parse("time,rate\n0,5\n").unwrap_err());
        expect![[r#"
            bad-trace

              × the trace is empty
               ╭─[trace.csv:1:1]
               ╰────
              help: begin with `time,rate`, then a line a change

        "#]]
        .assert_eq(&parse("").unwrap_err());
        expect![[r#"
            bad-trace

              × the trace has more than 5000000 requests
               ╭─[trace.csv:1:1]
             1 │ time,rate
               · ─────────
             2 │ 0,1e9
               ╰────
              help: cut it into parts

        "#]]
        .assert_eq(&parse("time,rate\n0,1e9\n60,1\n").unwrap_err());
    }
}
