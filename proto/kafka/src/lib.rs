//! Kafka's protocol: one declarative table a message, from which decode and encode are generated for
//! every version served; frames; errors. It knows no socket and no broker.
#![forbid(unsafe_code)]
