//! Which of two generations a request gets. Pure: headers and numbers in, a side out.

use schema::Share;

/// The header by which a request asks for a generation, and an answer names the one that it is of.
pub const HEADER: &str = "x-engine-generation";

/// One of the two generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that is served.
    Stable,
    /// The one that is to be.
    Next,
}

/// How requests are divided at the moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The share of requests that the next generation gets, or is copied to it.
    pub share: Share,
    /// Whether it gets copies, and not the requests themselves.
    pub copies: bool,
    /// The header whose value decides, so that a client stays on one side.
    pub sticky: Option<String>,
    /// Makes one rollout choose other clients than the last one.
    pub salt: u64,
}

/// What is known of a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// The value of [`HEADER`].
    pub wanted: Option<&'a str>,
    /// The value of the header that makes clients stay on one side.
    pub sticky: Option<&'a [u8]>,
    /// How many requests there were before.
    pub number: u64,
    /// Whether the generation that is served has something at the path.
    pub stable_has: bool,
    /// Whether the next one has.
    pub next_has: bool,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Who answers it.
    pub side: Side,
    /// Whether the next generation gets a copy.
    pub copied: bool,
}

/// What [`HEADER`] asks for.
///
/// # Errors
/// It says something else.
pub fn wanted(value: &str) -> Result<Side, &'static str> {
    match value {
        "stable" => Ok(Side::Stable),
        "next" => Ok(Side::Next),
        _ => Err("is `stable` or `next`"),
    }
}

/// Divides requests between two generations.
///
/// A request that names a side gets it. A path that one side alone has is answered there: it would
/// be a 404 for no reason otherwise. All others are divided by the share.
///
/// # Errors
/// What is wrong with [`HEADER`].
pub fn choose(split: &Split, ask: &Ask<'_>) -> Result<Choice, &'static str> {
    let only = |side| Choice {
        side,
        copied: false,
    };
    if let Some(value) = ask.wanted {
        return wanted(value).map(only);
    }
    match (ask.stable_has, ask.next_has) {
        (true, false) => return Ok(only(Side::Stable)),
        (false, true) => return Ok(only(Side::Next)),
        _ => {}
    }
    let chosen = falls_within(split.share, point(split, ask));
    Ok(match (chosen, split.copies) {
        (false, _) => only(Side::Stable),
        (true, false) => only(Side::Next),
        (true, true) => Choice {
            side: Side::Stable,
            copied: true,
        },
    })
}

/// A place on the circle of all `u64`.
fn point(split: &Split, ask: &Ask<'_>) -> u64 {
    match ask.sticky {
        // The same value stays below a share that grows.
        Some(value) => mixed(fnv(value) ^ mixed(split.salt)),
        // The multiples of the golden ratio fill the circle more evenly than chance would: whatever
        // the stretch, a share of 5% gets close to every twentieth request (Weyl 1916).
        None => ask.number.wrapping_mul(0x9E37_79B9_7F4A_7C15),
    }
}

fn falls_within(share: Share, point: u64) -> bool {
    share.0 >= 1.0 || (point as f64) < share.0 * 2f64.powi(64)
}

/// FNV-1a with 64 bits (Fowler, Noll and Vo).
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// The finaliser of splitmix64 (Steele, Lea and Flood 2014).
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn split(share: f64, copies: bool) -> Split {
        Split {
            share: Share(share),
            copies,
            sticky: None,
            salt: 2,
        }
    }

    fn both(number: u64) -> Ask<'static> {
        Ask {
            number,
            stable_has: true,
            next_has: true,
            ..Ask::default()
        }
    }

    #[test]
    fn who_answers() {
        let none = both(1);
        let says = |wanted| Ask {
            wanted: Some(wanted),
            ..none
        };
        let has = |stable_has, next_has| Ask {
            stable_has,
            next_has,
            ..none
        };
        let rows = [
            ("nothing, 0%", split(0.0, false), none),
            ("nothing, 100%", split(1.0, false), none),
            ("nothing, copies of 100%", split(1.0, true), none),
            ("next, 0%", split(0.0, false), says("next")),
            ("stable, 100%", split(1.0, false), says("stable")),
            ("stable, copies of 100%", split(1.0, true), says("stable")),
            ("3, 100%", split(1.0, false), says("3")),
            (
                "a graph that is new, 0%",
                split(0.0, false),
                has(false, true),
            ),
            (
                "a graph that goes, 100%",
                split(1.0, false),
                has(true, false),
            ),
            ("no graph, 0%", split(0.0, false), has(false, false)),
        ];
        let mut table = String::new();
        for (what, split, ask) in rows {
            table += &match choose(&split, &ask) {
                Ok(Choice { side, copied }) => {
                    let copied = if copied { ", copied" } else { "" };
                    format!("{what}: {side:?}{copied}\n")
                }
                Err(reason) => format!("{what}: {reason}\n"),
            };
        }
        expect![[r#"
            nothing, 0%: Stable
            nothing, 100%: Next
            nothing, copies of 100%: Stable, copied
            next, 0%: Next
            stable, 100%: Stable
            stable, copies of 100%: Stable
            3, 100%: is `stable` or `next`
            a graph that is new, 0%: Next
            a graph that goes, 100%: Stable
            no graph, 0%: Stable
        "#]]
        .assert_eq(&table);
    }

    /// How many of these requests the next generation gets.
    fn taken(split: &Split, asks: impl Iterator<Item = Ask<'static>>) -> usize {
        asks.filter(|ask| choose(split, ask).unwrap().side == Side::Next)
            .count()
    }

    #[test]
    fn any_stretch_of_requests_is_divided_evenly() {
        for share in [0.01, 0.05, 0.25, 0.5, 0.99] {
            for first in [0, 7, 12_345] {
                let got = taken(&split(share, false), (first..first + 1000).map(both));
                let wanted = share * 1000.0;
                assert!((got as f64 - wanted).abs() <= 3.0, "{share} of 1000: {got}");
            }
        }
        // Two graphs that are asked in turn get the same share each.
        let even = taken(&split(0.25, false), (0..1000).map(|n| both(2 * n)));
        assert!((245..=255).contains(&even), "{even}");
    }

    #[test]
    fn a_client_stays_on_its_side_while_the_share_grows() {
        let ask = |client: &'static str, number| Ask {
            sticky: Some(client.as_bytes()),
            ..both(number)
        };
        let names: Vec<&'static str> = (0..2000)
            .map(|n| &*Box::leak(format!("client-{n}").into_boxed_str()))
            .collect();
        let on_next = |share, number| {
            let split = split(share, false);
            let next = names.iter().filter(|name| {
                let choice = choose(&split, &ask(name, number)).unwrap();
                choice.side == Side::Next
            });
            next.copied().collect::<Vec<_>>()
        };
        let (few, more) = (on_next(0.05, 1), on_next(0.25, 99));
        assert!(few.iter().all(|client| more.contains(client)));
        assert_eq!(few, on_next(0.05, 77));
        assert!((70..=130).contains(&few.len()), "{}", few.len());
        assert!((450..=550).contains(&more.len()), "{}", more.len());
    }
}
