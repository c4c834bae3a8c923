//! Kafka's numbers for the resources that have settings, the types of values, and their sources.

use conveyor_controller::ValueType;

use crate::admin::configs::SettingSource;

/// What settings belong to (`ConfigResource.Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResourceType {
    Topic,
    Broker,
    BrokerLogger,
    ClientMetrics,
    Group,
}

impl ResourceType {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 5] = [
        Self::Topic,
        Self::Broker,
        Self::BrokerLogger,
        Self::ClientMetrics,
        Self::Group,
    ];

    pub(super) const fn number(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::BrokerLogger => 8,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }

    pub(super) fn from_number(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// Kafka's number of a source (`ConfigSource`).
pub(super) const fn source_number(source: SettingSource) -> i8 {
    match source {
        SettingSource::DynamicTopic => 1,
        SettingSource::StaticBroker => 4,
        SettingSource::Default => 5,
    }
}

/// Kafka's number of a type (`ConfigType`).
pub(super) const fn type_number(value_type: ValueType) -> i8 {
    match value_type {
        ValueType::Boolean => 1,
        ValueType::String => 2,
        ValueType::Int => 3,
        ValueType::Short => 4,
        ValueType::Long => 5,
        ValueType::Double => 6,
        ValueType::List => 7,
    }
}
