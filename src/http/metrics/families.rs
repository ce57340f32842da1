//! Writing whole families of metrics.

use crate::counting::Histogram;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use std::fmt;

/// Name and value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// Writes whole families of metrics.
pub(super) struct Families<'e, 'w>(pub(super) &'e mut DescriptorEncoder<'w>);

impl Families<'_, '_> {
    pub(super) fn gauges<'l, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<'l>; N], V)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.gauges(name, help, [([], value)])
    }

    /// The names of counters are without `_total`, which the format adds.
    pub(super) fn counters<'l, const N: usize, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<'l>; N], V)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            let mut metric = family.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeCounterValue,
    ) -> fmt::Result {
        self.counters(name, help, [([], value)])
    }

    pub(super) fn histograms<'l, const N: usize, const B: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<'l>; N], Histogram<B>)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, value) in values {
            let buckets: Vec<_> = value.buckets().collect();
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(value.sum(), value.count(), &buckets, None)?;
        }
        Ok(())
    }

    /// The name is without `_info`, which the format adds.
    pub(super) fn info(&mut self, name: &str, help: &str, label: Label<'_>) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Info)?;
        family.encode_info(&[label])
    }

    pub(super) fn metric(
        &mut self,
        name: &str,
        help: &str,
        metric: &impl EncodeMetric,
    ) -> fmt::Result {
        let family = self
            .0
            .encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(family)
    }
}
