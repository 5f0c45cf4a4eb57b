//! The schema, step by step. A step that was released never changes; the next one mends it.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType};

/// All steps, in order.
pub(super) fn migrations() -> Vec<Migration> {
    let step = |(version, description, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(description), MigrationType::Simple, Cow::Borrowed(sql), false)
    };
    let steps = [
        (1, "events, members, products, keys, audit", FIRST),
        (2, "contacts", CONTACTS),
        (3, "contacts among events, plans by status", INDEXES),
        (4, "members who are held out", HELD_OUT),
        (5, "contacts among events, by number", CONTACTS_BY_NUMBER),
        (6, "what plans were asked for", ASKED),
    ];
    steps.map(step).to_vec()
}

/// Types are those that both databases take alike.
const FIRST: &str = "
CREATE TABLE clock (
    id BIGINT PRIMARY KEY,
    seq BIGINT NOT NULL,
    erasures BIGINT NOT NULL,
    hash_key TEXT NOT NULL,
    entries BIGINT NOT NULL,
    audit_head TEXT NOT NULL
);
CREATE TABLE events (
    seq BIGINT PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    member_id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    kind SMALLINT NOT NULL,
    time BIGINT NOT NULL,
    quantity DOUBLE PRECISION,
    amount DOUBLE PRECISION,
    store_id TEXT,
    channel TEXT,
    basket_id TEXT
);
CREATE INDEX events_by_member ON events (member_id);
CREATE INDEX events_by_time ON events (time);
CREATE TABLE members (
    member_id TEXT PRIMARY KEY,
    seq BIGINT NOT NULL,
    profile TEXT NOT NULL
);
CREATE INDEX members_by_seq ON members (seq);
CREATE TABLE products (
    product_id TEXT PRIMARY KEY,
    seq BIGINT NOT NULL,
    patch TEXT NOT NULL
);
CREATE INDEX products_by_seq ON products (seq);
CREATE TABLE tombstones (
    hash TEXT PRIMARY KEY,
    seq BIGINT NOT NULL
);
CREATE INDEX tombstones_by_seq ON tombstones (seq);
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    record TEXT NOT NULL
);
CREATE TABLE audit (
    number BIGINT PRIMARY KEY,
    time BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash TEXT NOT NULL
);
";

const CONTACTS: &str = "
CREATE TABLE contacts (
    contact_id TEXT PRIMARY KEY,
    seq BIGINT NOT NULL,
    plan_id TEXT NOT NULL,
    campaign_id TEXT NOT NULL,
    member_id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    channel TEXT NOT NULL,
    priority SMALLINT NOT NULL,
    time BIGINT NOT NULL,
    until BIGINT NOT NULL,
    status SMALLINT NOT NULL,
    said_at BIGINT NOT NULL,
    probability DOUBLE PRECISION NOT NULL,
    value DOUBLE PRECISION NOT NULL
);
CREATE TABLE plans (
    plan_id TEXT PRIMARY KEY,
    time BIGINT NOT NULL,
    most BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    state SMALLINT NOT NULL
);
CREATE INDEX contacts_by_member ON contacts (member_id);
CREATE INDEX contacts_by_plan ON contacts (plan_id);
CREATE INDEX contacts_by_seq ON contacts (seq);
CREATE INDEX contacts_by_time ON contacts (time);
";

/// Of the events of years, a budget asks for a member's contacts alone, and who calls a plan off for what is not done yet.
const INDEXES: &str = "
DROP INDEX contacts_by_plan;
CREATE INDEX contacts_by_plan ON contacts (plan_id, status);
CREATE INDEX events_contacts ON events (member_id, time) WHERE kind = 6;
";

/// Who loads a version asks for the contacts of months, among all events of these.
const CONTACTS_BY_NUMBER: &str = "
CREATE INDEX events_contacts_by_seq ON events (seq) WHERE kind = 6;
";

/// A plan's name is asked for again with the same question, or by mistake with another one.
const ASKED: &str = "
ALTER TABLE plans ADD COLUMN asked TEXT;
";

/// What those who are held out of a plan would have got: as contacts are, but apart from them, so that nothing that sends,
/// counts or follows contacts ever sees one.
const HELD_OUT: &str = "
CREATE TABLE held_out (
    contact_id TEXT PRIMARY KEY,
    seq BIGINT NOT NULL,
    plan_id TEXT NOT NULL,
    campaign_id TEXT NOT NULL,
    member_id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    channel TEXT NOT NULL,
    priority SMALLINT NOT NULL,
    time BIGINT NOT NULL,
    until BIGINT NOT NULL,
    status SMALLINT NOT NULL,
    said_at BIGINT NOT NULL,
    probability DOUBLE PRECISION NOT NULL,
    value DOUBLE PRECISION NOT NULL
);
CREATE INDEX held_out_by_member ON held_out (member_id);
CREATE INDEX held_out_by_plan ON held_out (plan_id);
CREATE INDEX held_out_by_time ON held_out (time);
";
