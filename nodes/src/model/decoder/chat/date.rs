//! Dates as Python's `strftime` writes them, in UTC.

use std::{fmt::Write, time::Duration};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// Writes a time since 1970; a directive that is not known stays as it is.
pub(super) fn format(now: Duration, format: &str) -> String {
    let seconds = now.as_secs();
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    let (month_name, day_name) = (MONTHS[month - 1], DAYS[(days % 7) as usize]);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(c) = characters.next() {
        let directive = if c == '%' { characters.next() } else { None };
        // Writing to a string does not fail.
        let _ = match directive {
            Some('Y') => write!(text, "{year:04}"),
            Some('y') => write!(text, "{:02}", year % 100),
            Some('m') => write!(text, "{month:02}"),
            Some('d') => write!(text, "{day:02}"),
            Some('H') => write!(text, "{hour:02}"),
            Some('M') => write!(text, "{minute:02}"),
            Some('S') => write!(text, "{second:02}"),
            Some('B') => write!(text, "{month_name}"),
            Some('b') => write!(text, "{}", &month_name[..3]),
            Some('A') => write!(text, "{day_name}"),
            Some('a') => write!(text, "{}", &day_name[..3]),
            Some('%') => write!(text, "%"),
            Some(other) => write!(text, "%{other}"),
            None => write!(text, "{c}"),
        };
    }
    text
}

/// Year, month and day of a number of days since 1970 (Hinnant, *chrono-compatible low-level date
/// algorithms*).
fn civil(days: u64) -> (u64, usize, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years begin in March here, so that the leap day is the last.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "Thursday, 01 January 1970 00:00:00"),
            (951_782_400, "Tuesday, 29 February 2000 00:00:00"),
            (1_700_000_000, "Tuesday, 14 November 2023 22:13:20"),
            (4_102_444_799, "Thursday, 31 December 2099 23:59:59"),
        ];
        for (seconds, expected) in cases {
            let now = Duration::from_secs(seconds);
            assert_eq!(format(now, "%A, %d %B %Y %H:%M:%S"), expected);
        }
        let now = Duration::from_secs(1_700_000_000);
        assert_eq!(
            format(now, "%a %d %b %y %Q 100%% %"),
            "Tue 14 Nov 23 %Q 100% %"
        );
    }
}
