//! What stays in memory and what goes. Pure: it sees what is held and says what to do.

use std::{cmp::Reverse, time::Duration};

/// How much may be held, and for how long at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many are held at most.
    pub max_loaded: usize,
    /// How many bytes they take at most.
    pub max_bytes: u64,
    /// How long one that was loaded is not displaced by another. Where more are in use than there is
    /// room for, it keeps them from displacing one another at every request.
    pub min_residency: Duration,
}

/// One that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) bytes: u64,
    /// Somebody uses it: to let go of it would free nothing.
    pub(super) leased: bool,
    /// An operator wants it to stay.
    pub(super) pinned: bool,
    /// Grows with each use of any.
    pub(super) last_use: u64,
    /// Since it was loaded.
    pub(super) age: Duration,
}

impl Held {
    fn may_go(&self) -> bool {
        !self.leased && !self.pinned
    }
}

/// How many, and what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    pub(super) count: usize,
    pub(super) bytes: u64,
}

impl Load {
    fn of(held: &[Held]) -> Self {
        Self {
            count: held.len(),
            bytes: held.iter().map(|one| one.bytes).sum(),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn less(self, one: Held) -> Self {
        Self {
            count: self.count - 1,
            bytes: self.bytes.saturating_sub(one.bytes),
        }
    }

    fn fits(self, bounds: &Bounds) -> bool {
        self.count <= bounds.max_loaded && self.bytes <= bounds.max_bytes
    }
}

/// What becomes of one that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is held, and these go, given by their places among those that are held.
    Hold { evict: Vec<usize> },
    /// It is handed to who asked for it and not held: all others are too young to go.
    Pass,
}

/// Makes room for a newcomer of `bytes`. `lingering` is what is no longer held and still in use.
///
/// The one that was not used for the longest time goes first. What is in use or pinned stays, and
/// if therefore there is no room, the newcomer is held over the bounds until [`trim`].
pub(super) fn admit(bounds: &Bounds, held: &[Held], lingering: Load, bytes: u64) -> Admission {
    let newcomer = Load { count: 1, bytes };
    let load = Load::of(held).plus(newcomer);
    let (young, old) = by_age(bounds, held);
    let (evict, fits) = free(bounds, held, load.plus(lingering), &old);
    if fits || young.is_empty() {
        return Admission::Hold { evict };
    }
    let everyone: Vec<usize> = old.into_iter().chain(young).collect();
    match free(bounds, held, load, &everyone) {
        (_, true) => Admission::Pass,
        (evict, false) => Admission::Hold { evict },
    }
}

/// Whether one more may be loaded before its use. What is in use or pinned cannot make room for it,
/// and `coming` others are on their way; each is taken to be as large as the largest that is held.
pub(super) fn has_room_ahead(
    bounds: &Bounds,
    held: &[Held],
    lingering: Load,
    coming: usize,
) -> bool {
    let largest = held.iter().map(|one| one.bytes).max().unwrap_or_default();
    let staying: Vec<Held> = held.iter().filter(|one| !one.may_go()).copied().collect();
    let ahead = Load {
        count: coming + 1,
        bytes: largest.saturating_mul(coming as u64 + 1),
    };
    Load::of(&staying).plus(lingering).plus(ahead).fits(bounds)
}

/// What goes because there is more than the bounds allow: those that were not used for the longest
/// time first, and young ones only if what is held is too much by itself. What lingers goes soon
/// enough, and would else displace what was to be kept from it.
pub(super) fn trim(bounds: &Bounds, held: &[Held], lingering: Load) -> Vec<usize> {
    let (young, old) = by_age(bounds, held);
    let load = Load::of(held);
    let (mut gone, _) = free(bounds, held, load.plus(lingering), &old);
    let left = gone
        .iter()
        .fold(load, |load, index| load.less(held[*index]));
    gone.extend(free(bounds, held, left, &young).0);
    gone
}

/// What may go, the longest unused first: those that are too young to be displaced, and the others.
fn by_age(bounds: &Bounds, held: &[Held]) -> (Vec<usize>, Vec<usize>) {
    let is_young = |index: &usize| held[*index].age < bounds.min_residency;
    order(held).into_iter().partition(is_young)
}

/// What may go, the longest unused first.
fn order(held: &[Held]) -> Vec<usize> {
    let mut candidates: Vec<usize> = (0..held.len())
        .filter(|index| held[*index].may_go())
        .collect();
    candidates.sort_by_key(|index| (held[*index].last_use, Reverse(held[*index].bytes)));
    candidates
}

/// Takes candidates until the load fits; also says whether it does.
fn free(
    bounds: &Bounds,
    held: &[Held],
    mut load: Load,
    candidates: &[usize],
) -> (Vec<usize>, bool) {
    let mut evict = Vec::new();
    for index in candidates {
        if load.fits(bounds) {
            break;
        }
        load = load.less(held[*index]);
        evict.push(*index);
    }
    (evict, load.fits(bounds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds {
        max_loaded: 3,
        max_bytes: 100,
        min_residency: Duration::from_secs(1),
    };
    const NONE: Load = Load { count: 0, bytes: 0 };

    /// `bytes`, then the time of the last use; `L`eased, `P`inned, `Y`oung.
    fn held(all: &[(u64, u64, &str)]) -> Vec<Held> {
        all.iter()
            .map(|(bytes, last_use, marks)| Held {
                bytes: *bytes,
                last_use: *last_use,
                leased: marks.contains('L'),
                pinned: marks.contains('P'),
                age: Duration::from_secs(if marks.contains('Y') { 0 } else { 5 }),
            })
            .collect()
    }

    #[test]
    fn a_newcomer_displaces_what_was_unused_for_the_longest_time() {
        let hold = |evict: &[usize]| Admission::Hold {
            evict: evict.into(),
        };
        for (name, all, bytes, expected) in [
            ("room", &[(10, 1, ""), (10, 2, "")][..], 10, hold(&[])),
            (
                "full by count",
                &[(10, 3, ""), (10, 1, ""), (10, 2, "")],
                10,
                hold(&[1]),
            ),
            ("full by bytes", &[(60, 2, ""), (30, 1, "")], 20, hold(&[1])),
            (
                "two must go",
                &[(45, 2, ""), (50, 1, "")],
                90,
                hold(&[1, 0]),
            ),
            (
                "in use",
                &[(10, 1, "L"), (10, 2, ""), (10, 3, "")],
                10,
                hold(&[1]),
            ),
            (
                "pinned",
                &[(10, 1, "P"), (10, 2, "L"), (10, 3, "")],
                10,
                hold(&[2]),
            ),
            (
                "too young",
                &[(10, 1, "Y"), (10, 2, "Y"), (10, 3, "Y")],
                10,
                Admission::Pass,
            ),
            (
                "old before young",
                &[(10, 1, "Y"), (10, 2, "Y"), (10, 3, "")],
                10,
                hold(&[2]),
            ),
            (
                "all in use",
                &[(10, 1, "L"), (10, 2, "LY"), (10, 3, "L")],
                10,
                hold(&[]),
            ),
            (
                "over the bounds all the same",
                &[(40, 1, "L"), (40, 2, "L"), (20, 3, "Y")],
                40,
                hold(&[2]),
            ),
        ] {
            assert_eq!(admit(&BOUNDS, &held(all), NONE, bytes), expected, "{name}");
        }
    }

    #[test]
    fn what_lingers_takes_room() {
        let lingering = Load {
            count: 1,
            bytes: 50,
        };
        let all = held(&[(40, 1, ""), (5, 2, "")]);
        let expected = Admission::Hold { evict: vec![0] };
        assert_eq!(admit(&BOUNDS, &all, lingering, 10), expected);
        assert_eq!(
            trim(
                &BOUNDS,
                &all,
                Load {
                    count: 1,
                    bytes: 60
                }
            ),
            [0]
        );
    }

    #[test]
    fn what_is_too_much_goes_once_it_is_free() {
        let all = [(50, 1, "L"), (50, 2, "Y"), (50, 3, ""), (50, 4, "P")];
        assert_eq!(trim(&BOUNDS, &held(&all), NONE), [2, 1]);
        assert_eq!(trim(&BOUNDS, &held(&all[..2]), NONE), Vec::<usize>::new());
    }

    #[test]
    fn what_is_loaded_ahead_takes_no_room_from_what_is_in_use() {
        let lingering = Load {
            count: 1,
            bytes: 30,
        };
        for (name, all, lingering, coming, expected) in [
            ("nothing is held", &[][..], NONE, 0, true),
            (
                "others may go",
                &[(30, 1, ""), (30, 2, "Y"), (30, 3, "")],
                NONE,
                2,
                true,
            ),
            ("all are on their way", &[], NONE, 3, false),
            (
                "one is left",
                &[(10, 1, "L"), (10, 2, "P"), (10, 3, "")],
                NONE,
                0,
                true,
            ),
            (
                "it is on its way",
                &[(10, 1, "L"), (10, 2, "P"), (10, 3, "")],
                NONE,
                1,
                false,
            ),
            (
                "what lingers is in use",
                &[(10, 1, "L"), (10, 2, "L")],
                lingering,
                0,
                false,
            ),
            ("by bytes", &[(60, 1, "L"), (30, 2, "")], NONE, 0, false),
        ] {
            let room = has_room_ahead(&BOUNDS, &held(all), lingering, coming);
            assert_eq!(room, expected, "{name}");
        }
    }

    fn any_held() -> impl Strategy<Value = Vec<Held>> {
        let one = (0..60u64, any::<bool>(), any::<bool>(), 0..20u64, 0..3000u64);
        let one = one.prop_map(|(bytes, leased, pinned, last_use, age)| Held {
            bytes,
            leased,
            pinned,
            last_use,
            age: Duration::from_millis(age),
        });
        prop::collection::vec(one, 0..8)
    }

    proptest! {
        #[test]
        fn bounds_are_kept_but_for_what_is_in_use_or_pinned(
            all in any_held(), bytes in 0..=100u64, count in 0..3usize, other in 0..80u64,
        ) {
            let lingering = Load { count, bytes: other };
            if let Admission::Hold { evict } = admit(&BOUNDS, &all, lingering, bytes) {
                let stay: Vec<Held> = (0..all.len())
                    .filter(|index| !evict.contains(index))
                    .map(|index| all[index])
                    .collect();
                let load = Load::of(&stay).plus(lingering).plus(Load { count: 1, bytes });
                prop_assert!(load.fits(&BOUNDS) || stay.iter().all(|one| !one.may_go()));
                prop_assert!(evict.iter().all(|index| all[*index].may_go()));
            }
            let gone = trim(&BOUNDS, &all, lingering);
            let stay: Vec<Held> = (0..all.len())
                .filter(|index| !gone.contains(index))
                .map(|index| all[index])
                .collect();
            let load = Load::of(&stay);
            prop_assert!(load.fits(&BOUNDS) || stay.iter().all(|one| !one.may_go()));
            let is_old = |one: &Held| one.age >= BOUNDS.min_residency;
            prop_assert!(
                load.plus(lingering).fits(&BOUNDS)
                    || stay.iter().all(|one| !one.may_go() || !is_old(one))
            );
            prop_assert!(gone.iter().all(|index| all[*index].may_go()));
        }

        #[test]
        fn no_more_goes_than_must(all in any_held(), bytes in 0..=100u64) {
            if let Admission::Hold { evict } = admit(&BOUNDS, &all, NONE, bytes)
                && let Some(last) = evict.last()
            {
                let stay: Vec<Held> = (0..all.len())
                    .filter(|index| !evict.contains(index) || index == last)
                    .map(|index| all[index])
                    .collect();
                let load = Load::of(&stay).plus(Load { count: 1, bytes });
                prop_assert!(!load.fits(&BOUNDS));
            }
        }
    }
}
