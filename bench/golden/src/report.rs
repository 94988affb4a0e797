//! What a comparison found: one line of name, deviation and bound each.

use std::fmt;

/// The largest deviation of one part from its golden.
#[derive(Clone, Debug)]
pub struct Finding {
    pub part: String,
    /// The tensor or entry that deviates most, where there are several.
    pub worst: String,
    pub deviation: f64,
    pub bound: f64,
}

impl Finding {
    pub fn passes(&self) -> bool {
        self.deviation <= self.bound // false for NaN
    }
}

/// The findings of one folder.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub name: String,
    pub findings: Vec<Finding>,
    /// Parts that were left out, by name.
    pub skipped: Vec<String>,
}

impl Report {
    pub fn passes(&self) -> bool {
        !self.findings.is_empty() && self.findings.iter().all(Finding::passes)
    }

    /// Adds the largest of the deviations. An empty list is a part that compared nothing: a failure.
    pub fn add(
        &mut self,
        part: &str,
        bound: f64,
        deviations: impl IntoIterator<Item = (String, f64)>,
    ) {
        let worst = deviations
            .into_iter()
            .reduce(|worst, next| if is_over(next.1, worst.1) { next } else { worst })
            .unwrap_or(("nothing was compared".into(), f64::NAN));
        let (worst, deviation) = worst;
        self.findings.push(Finding { part: part.into(), worst, deviation, bound });
    }

    /// Keeps the larger deviation of each part, of which both reports have the same. What `other` found is
    /// `on` something else.
    pub fn keep_worse(&mut self, other: Report, on: &str) {
        if self.findings.is_empty() {
            self.findings = other.findings;
            return;
        }
        assert_eq!(self.findings.len(), other.findings.len(), "reports of other parts");
        for (mine, theirs) in self.findings.iter_mut().zip(other.findings) {
            assert_eq!(mine.part, theirs.part, "reports of other parts");
            if is_over(theirs.deviation, mine.deviation) {
                *mine = Finding { worst: format!("{} on {on}", theirs.worst), ..theirs };
            }
        }
    }
}

fn is_over(a: f64, b: f64) -> bool {
    a.is_nan() || a > b
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {}:", if self.passes() { "ok  " } else { "FAIL" }, self.name)?;
        for (i, finding) in self.findings.iter().enumerate() {
            write!(
                f,
                "{} {} {:.1e}",
                if i == 0 { "" } else { "," },
                finding.part,
                finding.deviation
            )?;
            if !finding.passes() {
                write!(f, " (over {:.0e} in {})", finding.bound, finding.worst)?;
            }
        }
        if !self.skipped.is_empty() {
            write!(f, "; skipped: {}", self.skipped.join(", "))?;
        }
        Ok(())
    }
}

/// `|got − want| / |want|`.
pub fn relative(got: f64, want: f64) -> f64 {
    (got - want).abs() / want.abs().max(f64::MIN_POSITIVE)
}

/// L2 of the difference over L2 of what is wanted.
pub fn relative_l2(got: &[f32], want: &[f32]) -> f64 {
    if got.len() != want.len() {
        return f64::NAN;
    }
    let square = |x: f64| x * x;
    let diff: f64 = got.iter().zip(want).map(|(g, w)| square(f64::from(*g) - f64::from(*w))).sum();
    let norm: f64 = want.iter().map(|w| square(f64::from(*w))).sum();
    if norm == 0.0 { diff.sqrt() } else { (diff / norm).sqrt() }
}
