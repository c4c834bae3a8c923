// KafkaJS: only older versions of the protocol, groups with assignors of its own. `main.js [FILTER]`.
'use strict'

const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')
const assert = require('node:assert')
const LZ4 = require('kafkajs-lz4')
const Snappy = require('kafkajs-snappy')

CompressionCodecs[CompressionTypes.Snappy] = Snappy
CompressionCodecs[CompressionTypes.LZ4] = new LZ4().codec

const CLIENT = `kafkajs-${require('kafkajs/package.json').version}`
const CASE_LIMIT_MS = 60_000
const run = Date.now().toString(36)
let names = 0
const cases = []

if (!process.env.CONVEYOR_BOOTSTRAP) {
  console.error('CONVEYOR_BOOTSTRAP=host:port is not set')
  process.exit(1)
}
const kafka = new Kafka({
  brokers: [process.env.CONVEYOR_BOOTSTRAP],
  clientId: 'conveyor-clients',
  logLevel: logLevel.ERROR,
  logCreator: () => ({ log }) => console.error(JSON.stringify(log))
})

const unique = (name) => `${name}-${run}-${++names}`
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** A topic that other cases do not use, whose partitions all have leaders. */
async function topic (partitions = 1, settings = {}) {
  const name = unique('topic')
  await withAdmin(async (admin) => {
    const configEntries = Object.entries(settings).map(([key, value]) => ({ name: key, value }))
    await admin.createTopics({ topics: [{ topic: name, numPartitions: partitions, configEntries }], waitForLeaders: true })
    await eventually(10, `leaders of ${name}`, async () => {
      try {
        return (await admin.fetchTopicOffsets(name)).length === partitions
      } catch {
        return false
      }
    })
  })
  return name
}

async function withAdmin (body) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await body(admin)
  } finally {
    await admin.disconnect()
  }
}

async function withProducer (options, body) {
  const producer = kafka.producer(options)
  await producer.connect()
  try {
    return await body(producer)
  } finally {
    await producer.disconnect()
  }
}

async function eventually (seconds, expectation, condition) {
  const deadline = Date.now() + seconds * 1000
  while (!(await condition())) {
    assert(Date.now() < deadline, `expected within ${seconds} s: ${expectation}`)
    await sleep(50)
  }
}

const messages = (prefix, count) => Array.from({ length: count }, (_, i) => ({ key: `${i}`, value: `${prefix}${i}` }))

/** A consumer that collects what it gets, with the options of `subscribe`. */
async function member (groupId, topics, options = {}, runOptions = {}) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 10_000, heartbeatInterval: 300, maxWaitTimeInMs: 100, ...options })
  const found = { consumer, records: [], owned: [] }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => { found.owned = Object.values(payload.memberAssignment).flat() })
  await consumer.connect()
  await consumer.subscribe({ topics, fromBeginning: true })
  await consumer.run({
    ...runOptions,
    eachMessage: async ({ message, partition }) => { found.records.push({ partition, ...message }) }
  })
  return found
}

/** `count` records of a topic from its beginning. */
async function read (name, count, options = {}) {
  const reader = await member(unique('reader'), [name], options)
  try {
    await eventually(30, `${count} records of ${name}`, () => reader.records.length >= count)
    await sleep(200)
    assert.strictEqual(reader.records.length, count, 'records')
    return reader.records
  } finally {
    await reader.consumer.disconnect()
  }
}

const values = (records) => records.map((record) => record.value && record.value.toString()).sort()

for (const [name, compression] of Object.entries(CompressionTypes).filter(([name]) => name !== 'ZSTD')) {
  cases.push([`produce/codec-${name.toLowerCase()}`, async () => {
    const name = await topic()
    await withProducer({ idempotent: true }, async (producer) => {
      const sent = await producer.send({ topic: name, compression, acks: -1, messages: messages('value ', 500) })
      assert.strictEqual(sent[0].baseOffset, '0', 'base offset')
    })
    assert.deepStrictEqual(values(await read(name, 500)), values(messages('value ', 500)), 'values')
  }])
}

cases.push(['produce/headers-and-null', async () => {
  const name = await topic()
  await withProducer({}, async (producer) => {
    await producer.send({
      topic: name,
      messages: [
        { value: 'v', headers: { a: ['1', '2'], b: 'x' }, timestamp: '1700000000123' },
        { key: 'tombstone', value: null }
      ]
    })
  })
  const [first, second] = await read(name, 2)
  assert.deepStrictEqual(first.headers.a.map(String), ['1', '2'], 'repeated header')
  assert.strictEqual(first.timestamp, '1700000000123', 'timestamp')
  assert.strictEqual(first.key, null, 'null key')
  assert.strictEqual(second.value, null, 'null value')
}])

for (const acks of [0, 1, -1]) {
  cases.push([`produce/acks-${acks}`, async () => {
    const name = await topic()
    await withProducer({}, (producer) => producer.send({ topic: name, acks, messages: messages('v', 100) }))
    await read(name, 100)
  }])
}

cases.push(['produce/too-large', async () => {
  const name = await topic(1, { 'max.message.bytes': '2000' })
  await withProducer({ retry: { retries: 0 } }, async (producer) => {
    await assert.rejects(producer.send({ topic: name, messages: [{ value: 'x'.repeat(10_000) }] }),
      (error) => error.type === 'MESSAGE_TOO_LARGE')
  })
}])

async function owned (members, sizes) {
  await eventually(30, `members own ${sizes} partitions`, () =>
    JSON.stringify(members.map((m) => m.owned.length).sort()) === JSON.stringify(sizes))
}

cases.push(['group/three-members', async () => {
  const name = await topic(6)
  const group = unique('group')
  const first = await member(group, [name])
  await owned([first], [6])
  const second = await member(group, [name])
  await owned([first, second], [3, 3])
  const third = await member(group, [name])
  const members = [first, second, third]
  await owned(members, [2, 2, 2])
  await withProducer({}, (producer) => producer.send({ topic: name, messages: messages('v', 300) }))
  await eventually(20, '300 records', () => new Set(members.flatMap((m) => values(m.records))).size === 300)
  await first.consumer.disconnect()
  await owned([second, third], [3, 3])
  await second.consumer.disconnect()
  await third.consumer.disconnect()
}])

cases.push(['group/resume-and-seek', async () => {
  const name = await topic()
  const group = unique('group')
  await withProducer({}, (producer) => producer.send({ topic: name, messages: messages('v', 10) }))
  const first = await member(group, [name], {}, { autoCommitThreshold: 1 })
  await eventually(20, '10 records', () => first.records.length === 10)
  await first.consumer.disconnect()
  await withProducer({}, (producer) => producer.send({ topic: name, messages: messages('w', 5) }))
  const second = await member(group, [name])
  await eventually(20, '5 more records', () => second.records.length === 5)
  second.consumer.seek({ topic: name, partition: 0, offset: '3' })
  await eventually(20, '12 records from offset 3 on', () => second.records.length === 17)
  assert.strictEqual(second.records[5].offset, '3', 'offset after seek')
  await second.consumer.disconnect()
}])

cases.push(['group/pattern', async () => {
  const name = await topic()
  await withProducer({}, (producer) => producer.send({ topic: name, messages: messages('v', 3) }))
  const reader = await member(unique('group'), [new RegExp(`^${name}$`)])
  await eventually(20, '3 records', () => reader.records.length === 3)
  await reader.consumer.disconnect()
}])

cases.push(['transaction/commit-abort-offsets', async () => {
  const name = await topic()
  const group = unique('group')
  await withProducer({ transactionalId: unique('tx'), maxInFlightRequests: 1, idempotent: true }, async (producer) => {
    for (const [round, commit] of [true, false, true].entries()) {
      const transaction = await producer.transaction()
      await transaction.send({ topic: name, messages: messages(`${round}-`, 10) })
      await transaction.sendOffsets({
        consumerGroupId: group, topics: [{ topic: name, partitions: [{ partition: 0, offset: `${round + 1}` }] }]
      })
      await (commit ? transaction.commit() : transaction.abort())
    }
  })
  const found = await read(name, 20)
  assert.deepStrictEqual(values(found), values([...messages('0-', 10), ...messages('2-', 10)]), 'committed values')
  await read(name, 30, { readUncommitted: true })
  await withAdmin(async (admin) => {
    const [offsets] = await admin.fetchOffsets({ groupId: group, topics: [name] })
    assert.strictEqual(offsets.partitions[0].offset, '3', 'committed offset')
  })
}])

cases.push(['admin/topics-and-settings', () => withAdmin(async (admin) => {
  const name = await topic(2, { 'retention.ms': '60000' })
  assert.strictEqual(await admin.createTopics({ topics: [{ topic: name }] }), false, 'a topic that is there')
  await admin.createPartitions({ topicPartitions: [{ topic: name, count: 4 }] })
  await eventually(10, '4 partitions', async () =>
    (await admin.fetchTopicMetadata({ topics: [name] })).topics[0].partitions.length === 4)
  const setting = async () => {
    const { resources } = await admin.describeConfigs({
      includeSynonyms: true, resources: [{ type: ConfigResourceTypes.TOPIC, name, configNames: ['retention.ms'] }]
    })
    return resources[0].configEntries[0].configValue
  }
  assert.strictEqual(await setting(), '60000', 'retention.ms')
  await admin.alterConfigs({
    validateOnly: false,
    resources: [{ type: ConfigResourceTypes.TOPIC, name, configEntries: [{ name: 'retention.ms', value: '70000' }] }]
  })
  await eventually(10, 'the new setting', async () => (await setting()) === '70000')
  assert.strictEqual((await admin.describeCluster()).brokers.length, 1, 'brokers')
  await admin.deleteTopics({ topics: [name] })
  await eventually(10, 'the topic is gone', async () => !(await admin.listTopics()).includes(name))
})])

cases.push(['admin/groups-and-offsets', () => withAdmin(async (admin) => {
  const name = await topic()
  const group = unique('group')
  await withProducer({}, (producer) => producer.send({ topic: name, messages: messages('v', 10) }))
  const reader = await member(group, [name])
  await eventually(20, '10 records', () => reader.records.length === 10)
  const { groups: [described] } = await admin.describeGroups([group])
  assert.deepStrictEqual([described.state, described.members.length], ['Stable', 1], 'state and members')
  assert((await admin.listGroups()).groups.some((g) => g.groupId === group), 'expected: the group is listed')
  await reader.consumer.disconnect()
  await eventually(10, 'the group is empty', async () =>
    (await admin.describeGroups([group])).groups[0].state === 'Empty')
  await admin.setOffsets({ groupId: group, topic: name, partitions: [{ partition: 0, offset: '4' }] })
  const [offsets] = await admin.fetchOffsets({ groupId: group, topics: [name] })
  assert.strictEqual(offsets.partitions[0].offset, '4', 'offset that was set')
  await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: '6' }] })
  const [ends] = await admin.fetchTopicOffsets(name)
  assert.deepStrictEqual([ends.low, ends.high], ['6', '10'], 'beginning and end')
  const [byTime] = await admin.fetchTopicOffsetsByTimestamp(name, Date.now() + 60_000)
  assert.strictEqual(byTime.offset, '10', 'offset of a time to come')
  await admin.deleteGroups([group])
})])

async function main () {
  const filter = process.argv[2] ?? ''
  const chosen = cases.filter(([name]) => name.includes(filter))
  let failed = 0
  for (const [name, body] of chosen) {
    const start = Date.now()
    const late = new Promise((resolve, reject) =>
      setTimeout(() => reject(new Error(`not done within ${CASE_LIMIT_MS} ms`)), CASE_LIMIT_MS).unref())
    try {
      await Promise.race([body(), late])
      console.log(`ok      ${CLIENT} ${name} (${Date.now() - start} ms)`)
    } catch (error) {
      failed += 1
      console.log(`FAILED  ${CLIENT} ${name} (${Date.now() - start} ms): ${error.message}`)
      console.log((error.stack ?? '').split('\n').slice(1, 4).map((line) => `    ${line}`).join('\n'))
    }
  }
  console.log(`node: ${chosen.length - failed} passed, ${failed} failed`)
  process.exit(failed === 0 && chosen.length > 0 ? 0 : 1)
}

main()
