//! Moments as people and files write them.

/// Returns a time of day (Unix milliseconds) as RFC 3339 has it, UTC, to the second; `None` for times that have no such form,
/// thousands of years from now.
pub fn rfc3339(unix_ms: u64) -> Option<String> {
    let seconds = i64::try_from(unix_ms / 1_000).ok()?;
    Some(jiff::Timestamp::from_second(seconds).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use crate::logic::moment::rfc3339;

    #[test]
    fn a_moment_is_written_to_the_second_in_utc() {
        assert_eq!(rfc3339(1_800_000_000_999).as_deref(), Some("2027-01-15T08:00:00Z"));
        assert_eq!(rfc3339(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(rfc3339(u64::MAX), None);
    }
}
