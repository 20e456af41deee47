//! Choosing the next token from a model's logits.
//!
//! In the order of `transformers`: repetition penalty, temperature, top-k, top-p, min-p. Without a
//! temperature the likeliest token is taken. The vocabulary is never sorted as a whole, since a
//! quarter of a million logits would take longer to sort than to compute.

use crate::model::decoder::{Scores, Wanted};
use std::collections::HashSet;

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// What logits are divided by; 0 takes the likeliest token each time.
    pub temperature: f32,
    /// Only this many likeliest tokens are left.
    pub top_k: Option<usize>,
    /// Only the fewest tokens are left that together have this probability (nucleus sampling,
    /// Holtzman et al. 2019).
    pub top_p: Option<f32>,
    /// Only tokens are left with at least this share of the likeliest one's probability.
    pub min_p: Option<f32>,
    /// What the logits of tokens that were seen before are divided by, or multiplied by where they
    /// are negative (Keskar et al. 2019); 1 does nothing.
    pub repetition_penalty: f32,
    /// Makes the choice repeatable.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

/// Chooses the tokens of one text, one after the other.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: SplitMix64,
    seen: HashSet<u32>,
    candidates: Vec<Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    logit: f32,
    token: u32,
}

impl Sampler {
    /// A sampler for a text that begins with `prompt`.
    pub fn new(sampling: Sampling, prompt: &[u32]) -> Self {
        let penalised = sampling.repetition_penalty != 1.0;
        Self {
            random: SplitMix64(sampling.seed),
            seen: prompt.iter().filter(|_| penalised).copied().collect(),
            candidates: Vec::new(),
            sampling,
        }
    }

    /// The logits that [`Sampler::next`] chooses from; with others beside them it chooses the same.
    pub fn wants(&self) -> Wanted {
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            ..
        } = self.sampling;
        let margin = match (temperature > 0.0, min_p) {
            // A penalty may make another the likeliest.
            _ if repetition_penalty != 1.0 => f32::INFINITY,
            (false, _) => 0.0,
            // The mass that `top-p` is a share of is that of all.
            (true, _) if top_p.is_some() && top_k.is_none() => f32::INFINITY,
            (true, min_p) => -log_of_least(temperature, min_p),
        };
        match margin.is_finite() {
            true => Wanted::Within(margin),
            false => Wanted::All,
        }
    }

    /// The next token; none if no logit is a finite number.
    pub fn next(&mut self, scores: Scores<'_>) -> Option<u32> {
        if self.sampling.repetition_penalty == 1.0 {
            return self.choose(scores);
        }
        let token = match scores {
            Scores::All(logits) => {
                let mut logits = logits.to_vec();
                for &token in &self.seen {
                    if let Some(logit) = logits.get_mut(token as usize) {
                        *logit = self.penalised(*logit);
                    }
                }
                self.choose(Scores::All(&logits))?
            }
            Scores::Largest(logits) => {
                let mut logits = logits.to_vec();
                for (token, logit) in &mut logits {
                    if self.seen.contains(token) {
                        *logit = self.penalised(*logit);
                    }
                }
                self.choose(Scores::Largest(&logits))?
            }
        };
        self.seen.insert(token);
        Some(token)
    }

    fn choose(&mut self, scores: Scores<'_>) -> Option<u32> {
        let (token, best) = scores.likeliest()?;
        match self.sampling.temperature > 0.0 {
            true => self.draw(scores, best),
            false => Some(token),
        }
    }

    fn penalised(&self, logit: f32) -> f32 {
        let penalty = self.sampling.repetition_penalty;
        match logit > 0.0 {
            true => logit / penalty,
            false => logit * penalty,
        }
    }

    /// Draws one where the largest logit is `best`.
    fn draw(&mut self, scores: Scores<'_>, best: f32) -> Option<u32> {
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.sampling;
        // `min-p` is a bound on logits, and the cheapest to apply.
        let least = best + log_of_least(temperature, min_p);
        self.candidates.clear();
        let tokens = scores.iter();
        let kept = tokens.filter(|(_, logit)| *logit >= least && *logit > f32::NEG_INFINITY);
        self.candidates
            .extend(kept.map(|(token, logit)| Candidate { logit, token }));
        if let Some(k) = top_k {
            keep_best(&mut self.candidates, k.max(1));
        }
        let weight =
            |candidate: &Candidate| f64::from((candidate.logit - best) / temperature).exp();
        if let Some(p) = top_p.filter(|&p| p < 1.0) {
            // The mass that `p` is a share of is that before `min-p`, unless `top-k` came first.
            let mass = match top_k {
                Some(_) => self.candidates.iter().map(weight).sum::<f64>(),
                None => total(scores, best, temperature),
            };
            keep_nucleus(&mut self.candidates, f64::from(p) * mass, weight);
        }
        let mass: f64 = self.candidates.iter().map(weight).sum();
        let mut left = self.random.unit() * mass;
        let chosen = self.candidates.iter().find(|candidate| {
            left -= weight(candidate);
            left < 0.0
        });
        // Rounding may leave a crumb behind the last one.
        chosen
            .or(self.candidates.last())
            .map(|candidate| candidate.token)
    }
}

/// How far below the largest logit `min-p` lets others be.
fn log_of_least(temperature: f32, min_p: Option<f32>) -> f32 {
    min_p.map_or(f32::NEG_INFINITY, |share| temperature * share.ln())
}

fn total(scores: Scores<'_>, best: f32, temperature: f32) -> f64 {
    let weights = scores
        .iter()
        .map(|(_, logit)| f64::from((logit - best) / temperature).exp());
    weights.filter(|weight| weight.is_finite()).sum()
}

fn order(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

fn keep_best(candidates: &mut Vec<Candidate>, k: usize) {
    if k < candidates.len() {
        candidates.select_nth_unstable_by(k, order);
        candidates.truncate(k);
    }
}

/// Keeps the likeliest candidates that together weigh `enough`. Sorts only as many as it takes.
fn keep_nucleus(candidates: &mut Vec<Candidate>, enough: f64, weight: impl Fn(&Candidate) -> f64) {
    let mut sorted = 0;
    let mut mass = 0.0;
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let part = rest.len().min(sorted.max(128));
        if part < rest.len() {
            rest.select_nth_unstable_by(part, order);
        }
        rest[..part].sort_unstable_by(order);
        for (index, candidate) in rest[..part].iter().enumerate() {
            mass += weight(candidate);
            if mass >= enough {
                candidates.truncate(sorted + index + 1);
                return;
            }
        }
        sorted += part;
    }
}

/// Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, 2014. The same seed gives
/// the same text in every version of this program, which a library's generator does not promise.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to 1, 1 excluded.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which tokens come up in many draws, in order of their ids.
    fn drawn(sampling: Sampling, logits: &[f32]) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling, &[]);
        let mut tokens: Vec<u32> = (0..2000)
            .map(|_| sampler.next(Scores::All(logits)).unwrap())
            .collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    #[test]
    fn filters_leave_what_they_should() {
        // Probabilities 0.5, 0.25, 0.125, 0.0625, 0.0625 at temperature 1, shuffled.
        let logits = [0.125f32, 0.5, 0.0625, 0.25, 0.0625].map(f32::ln);
        let hot = Sampling {
            temperature: 1.0,
            ..Sampling::default()
        };
        let cases: [(&str, Sampling, &[u32]); 9] = [
            ("greedy", Sampling::default(), &[1]),
            ("all", hot.clone(), &[0, 1, 2, 3, 4]),
            (
                "top-k 2",
                Sampling {
                    top_k: Some(2),
                    ..hot.clone()
                },
                &[1, 3],
            ),
            (
                "top-k beyond",
                Sampling {
                    top_k: Some(99),
                    ..hot.clone()
                },
                &[0, 1, 2, 3, 4],
            ),
            (
                "top-p 0.7",
                Sampling {
                    top_p: Some(0.7),
                    ..hot.clone()
                },
                &[1, 3],
            ),
            (
                "top-p 0.8",
                Sampling {
                    top_p: Some(0.8),
                    ..hot.clone()
                },
                &[0, 1, 3],
            ),
            (
                "top-p 0",
                Sampling {
                    top_p: Some(0.0),
                    ..hot.clone()
                },
                &[1],
            ),
            (
                "min-p 0.2",
                Sampling {
                    min_p: Some(0.2),
                    ..hot.clone()
                },
                &[0, 1, 3],
            ),
            (
                "top-k 2, then top-p of what is left",
                Sampling {
                    top_k: Some(2),
                    top_p: Some(0.6),
                    ..hot.clone()
                },
                &[1],
            ),
        ];
        for (name, sampling, expected) in cases {
            assert_eq!(drawn(sampling, &logits), expected, "{name}");
        }
    }

    #[test]
    fn what_is_wanted_is_all_that_is_chosen_from() {
        let logits: Vec<f32> = (0..1000).map(|i| 8.0 * (i as f32 * 0.37).sin()).collect();
        let greedy = Sampling::default();
        let hot = Sampling {
            temperature: 0.8,
            seed: 3,
            ..Sampling::default()
        };
        let filtered = Sampling {
            min_p: Some(0.1),
            top_k: Some(40),
            top_p: Some(0.9),
            ..hot.clone()
        };
        let cases = [
            ("greedy", greedy.clone(), true),
            (
                "min-p",
                Sampling {
                    min_p: Some(0.1),
                    ..hot.clone()
                },
                true,
            ),
            ("min-p, top-k and top-p", filtered.clone(), true),
            ("all", hot.clone(), false),
            (
                "top-k",
                Sampling {
                    top_k: Some(5),
                    ..hot
                },
                false,
            ),
            (
                "the mass of all",
                Sampling {
                    top_k: None,
                    ..filtered
                },
                false,
            ),
            (
                "penalties",
                Sampling {
                    repetition_penalty: 1.1,
                    ..greedy
                },
                false,
            ),
        ];
        for (name, sampling, is_near) in cases {
            let (mut of_all, mut of_near) = (
                Sampler::new(sampling.clone(), &[]),
                Sampler::new(sampling, &[]),
            );
            let Wanted::Within(margin) = of_all.wants() else {
                assert!(!is_near, "{name}");
                continue;
            };
            assert!(is_near, "{name}");
            let all = Scores::All(&logits);
            let (_, best) = all.likeliest().unwrap();
            let near: Vec<_> = all
                .iter()
                .filter(|(_, logit)| *logit >= best - margin)
                .collect();
            assert!(near.len() < logits.len() / 2);
            for _ in 0..50 {
                assert_eq!(
                    of_near.next(Scores::Largest(&near)),
                    of_all.next(all),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.7f32, 0.2, 0.1].map(|p| 2.0 * f32::ln(p));
        let sampling = Sampling {
            temperature: 2.0,
            seed: 7,
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(sampling, &[]);
        let mut counts = [0; 3];
        for _ in 0..20_000 {
            counts[sampler.next(Scores::All(&logits)).unwrap() as usize] += 1;
        }
        for (count, expected) in counts.into_iter().zip([14_000i32, 4_000, 2_000]) {
            // Five standard deviations of the largest of them.
            assert!((count - expected).abs() < 330, "{counts:?}");
        }
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let logits: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin()).collect();
        let text = |seed| {
            let sampling = Sampling {
                temperature: 1.0,
                top_p: Some(0.9),
                seed,
                ..Sampling::default()
            };
            let mut sampler = Sampler::new(sampling, &[]);
            (0..20)
                .map(|_| sampler.next(Scores::All(&logits)).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn repetition_is_penalised_in_prompt_and_text() {
        let sampling = Sampling {
            repetition_penalty: 2.0,
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(sampling, &[0]);
        let logits = [3.0, 2.0, 1.6, -1.0];
        let text: Vec<_> = (0..3)
            .map(|_| sampler.next(Scores::All(&logits)).unwrap())
            .collect();
        // 0 counts 1.5 from the start; 1 counts 1 and 2 counts 0.8 once they were taken.
        assert_eq!(text, [1, 2, 0]);
    }

    #[test]
    fn a_nucleus_of_thousands_is_exact() {
        // Even odds: a nucleus of 0.3 is the first 3 of 10.
        let logits = vec![1.0; 5000];
        let sampling = Sampling {
            temperature: 1.0,
            top_p: Some(0.3),
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(sampling, &[]);
        let largest = (0..3000)
            .filter_map(|_| sampler.next(Scores::All(&logits)))
            .max();
        assert!(matches!(largest, Some(1450..1501)), "{largest:?}");
    }

    #[test]
    fn logits_that_are_no_numbers_choose_nothing() {
        for logits in [
            vec![],
            vec![f32::NAN; 3],
            vec![f32::NEG_INFINITY; 3],
            vec![0.0, f32::INFINITY],
        ] {
            let mut sampler = Sampler::new(
                Sampling {
                    temperature: 1.0,
                    ..Sampling::default()
                },
                &[],
            );
            assert_eq!(sampler.next(Scores::All(&logits)), None, "{logits:?}");
        }
    }
}
