//! Limits of a number.

use super::ConfigReader;
use serde_json::Value;

impl ConfigReader<'_> {
    /// Two limits, of which the upper one may be infinite: written as such by Python, or as `{"__float__": "Infinity"}`.
    pub fn range_or(&self, field: &str, default: (f32, Option<f32>)) -> (f32, Option<f32>) {
        let Some(value) = self.get(field) else { return default };
        let float = |value: &Value| match value.get("__float__").and_then(Value::as_str) {
            Some("Infinity") => Some(f64::INFINITY),
            Some(_) => None,
            None => value.as_f64(),
        };
        let limits = value.as_array().map(|limits| limits.iter().map(float).collect::<Vec<_>>());
        match limits.as_deref() {
            Some(&[Some(low), Some(high)]) if low.is_finite() && 0.0 <= low && low <= high => {
                (low as f32, high.is_finite().then_some(high as f32))
            }
            Some(_) | None => {
                self.value_fault(field, value, "[low, high] with 0 ≤ low ≤ high; high may be Infinity".into());
                default
            }
        }
    }
}
