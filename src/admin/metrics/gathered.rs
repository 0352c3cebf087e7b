//! Families that other rooms hand over, such as those of the cluster, which this room does not know.

use futures_util::future::BoxFuture;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, Metric, MetricFamily, MetricType};

use super::label;

/// Asks for the families as they are now.
pub type GatheredSource = Box<dyn Fn() -> BoxFuture<'static, Vec<Gathered>> + Send + Sync>;

/// One family with its series.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Its series, all of one kind; labels by name and value.
    pub series: Vec<(Vec<(&'static str, String)>, Sample)>,
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// What only grows.
    Counter(f64),
    /// What is now.
    Gauge(f64),
    /// Times in seconds.
    Histogram {
        /// How many.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Upper bounds, and how many were at most so long.
        buckets: Vec<(f64, u64)>,
    },
}

/// As Prometheus has it; `None` for a family without series, which the encoder refuses.
pub(super) fn family(gathered: Gathered) -> Option<MetricFamily> {
    let Gathered { name, help, series } = gathered;
    let kind = match series.first()?.1 {
        Sample::Counter(_) => MetricType::COUNTER,
        Sample::Gauge(_) => MetricType::GAUGE,
        Sample::Histogram { .. } => MetricType::HISTOGRAM,
    };
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(series.into_iter().map(metric).collect());
    Some(family)
}

fn metric((labels, sample): (Vec<(&'static str, String)>, Sample)) -> Metric {
    let mut metric = Metric::from_label(labels.iter().map(|(name, value)| label(name, value)).collect());
    match sample {
        Sample::Counter(value) => {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        Sample::Gauge(value) => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        Sample::Histogram { count, sum, buckets } => {
            let bucket = |(bound, count): (f64, u64)| {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(bound);
                bucket.set_cumulative_count(count);
                bucket
            };
            let mut histogram = Histogram::default();
            histogram.set_sample_count(count);
            histogram.set_sample_sum(sum);
            histogram.set_bucket(buckets.into_iter().map(bucket).collect());
            metric.set_histogram(histogram);
        }
    }
    metric
}
