// franz-go against a broker: the newest versions of the protocol, in an implementation of its own.
// Usage: clients [FILTER]; one line a case, exit code 1 if one failed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const caseLimit = time.Minute

var (
	bootstrap = os.Getenv("CONVEYOR_BOOTSTRAP")
	run       = time.Now().UnixMilli()
	names     = 0
)

type testCase struct {
	name string
	body func(context.Context)
}

func main() {
	if bootstrap == "" {
		fmt.Fprintln(os.Stderr, "CONVEYOR_BOOTSTRAP=host:port is not set")
		os.Exit(1)
	}
	filter := ""
	if len(os.Args) > 1 {
		filter = os.Args[1]
	}
	passed, failed := 0, 0
	for _, one := range cases() {
		if !strings.Contains(one.name, filter) {
			continue
		}
		if runCase(one) {
			passed++
		} else {
			failed++
		}
	}
	fmt.Printf("go: %d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}

func runCase(one testCase) (passed bool) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), caseLimit)
	defer cancel()
	defer func() {
		if failure := recover(); failure != nil {
			fmt.Printf("FAILED  %s %s (%s): %v\n", client(), one.name, took(start), failure)
			fmt.Fprintf(os.Stderr, "%s: %s\n", one.name, debug.Stack())
			return
		}
		fmt.Printf("ok      %s %s (%s)\n", client(), one.name, took(start))
		passed = true
	}()
	one.body(ctx)
	return false
}

func took(start time.Time) string {
	return time.Since(start).Round(time.Millisecond).String()
}

// client is the name and version of franz-go, as it was built in.
func client() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/twmb/franz-go" {
			return "franz-go-" + strings.TrimPrefix(module.Version, "v")
		}
	}
	return "franz-go"
}

func cases() []testCase {
	all := []testCase{}
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		all = append(all, testCase{"produce/codec-" + name, func(ctx context.Context) { codecCase(ctx, codec) }})
	}
	sort.Slice(all, func(a, b int) bool { return all[a].name < all[b].name })
	balancers := []kgo.GroupBalancer{kgo.RangeBalancer(), kgo.StickyBalancer(), kgo.CooperativeStickyBalancer()}
	for _, balancer := range balancers {
		all = append(all, testCase{"group/" + balancer.ProtocolName(), func(ctx context.Context) { group(ctx, balancer) }})
	}
	return append(all,
		testCase{"produce/too-large", tooLarge},
		testCase{"consume/times", times},
		testCase{"transaction/commit-abort-fencing", transactions},
		testCase{"transaction/consume-transform-produce", consumeTransformProduce},
		testCase{"admin/topics-groups-records", administration},
	)
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal[T comparable](expected, found T, what string) {
	if expected != found {
		panic(fmt.Sprintf("%s: expected %v, found %v", what, expected, found))
	}
}

func eventually(ctx context.Context, expectation string, condition func() bool) {
	for deadline := time.Now().Add(30 * time.Second); !condition(); {
		if time.Now().After(deadline) || ctx.Err() != nil {
			panic("expected within 30 s: " + expectation)
		}
		time.Sleep(30 * time.Millisecond)
	}
}

func unique(name string) string {
	names++
	return fmt.Sprintf("%s-%x-%d", name, run, names)
}

func newClient(options ...kgo.Opt) *kgo.Client {
	return must(kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap), kgo.FetchMaxWait(100 * time.Millisecond)}, options...)...))
}

// topic makes one that no other case uses, whose partitions all have leaders.
func topic(ctx context.Context, partitions int32, settings map[string]*string) string {
	name := unique("topic")
	client := newClient()
	defer client.Close()
	admin := kadm.NewClient(client)
	must(admin.CreateTopic(ctx, partitions, 1, settings, name))
	eventually(ctx, "leaders of "+name, func() bool {
		offsets, err := admin.ListEndOffsets(ctx, name)
		return err == nil && offsets.Error() == nil && len(offsets[name]) == int(partitions)
	})
	return name
}

func produce(ctx context.Context, name, prefix string, count int, options ...kgo.Opt) []*kgo.Record {
	client := newClient(options...)
	defer client.Close()
	records := make([]*kgo.Record, count)
	for i := range records {
		records[i] = &kgo.Record{Topic: name, Key: fmt.Append(nil, i), Value: fmt.Appendf(nil, "%s%d", prefix, i)}
	}
	check(client.ProduceSync(ctx, records...).FirstErr())
	return records
}

// readAll gives every record up to the end that this isolation level shows.
func readAll(ctx context.Context, name string, isolation kgo.IsolationLevel) []*kgo.Record {
	client := newClient(kgo.ConsumeTopics(name), kgo.FetchIsolationLevel(isolation), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	admin := kadm.NewClient(client)
	ends := must(admin.ListEndOffsets(ctx, name))
	if isolation == kgo.ReadCommitted() {
		// A commit is answered before its markers lie in every partition.
		eventually(ctx, "no open transaction in "+name, func() bool {
			ends = must(admin.ListEndOffsets(ctx, name))
			stable := must(admin.ListCommittedOffsets(ctx, name))
			return fmt.Sprint(ends.Offsets()) == fmt.Sprint(stable.Offsets())
		})
	}
	left := map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		if end.Offset > 0 {
			left[end.Partition] = end.Offset
		}
	})
	records := []*kgo.Record{}
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		check(fetches.Err())
		fetches.EachRecord(func(record *kgo.Record) {
			if !record.Attrs.IsControl() {
				records = append(records, record)
			}
			if record.Offset+1 >= left[record.Partition] {
				delete(left, record.Partition)
			}
		})
	}
	return records
}

func values(records []*kgo.Record) string {
	all := make([]string, len(records))
	for i, record := range records {
		all[i] = string(record.Value)
	}
	sort.Strings(all)
	return strings.Join(all, ",")
}

func codecCase(ctx context.Context, codec kgo.CompressionCodec) {
	name := topic(ctx, 1, nil)
	sent := produce(ctx, name, "some value that repeats, that repeats ", 500, kgo.ProducerBatchCompression(codec))
	for i, record := range sent {
		equal(int64(i), record.Offset, "acknowledged offset")
	}
	equal(values(sent), values(readAll(ctx, name, kgo.ReadUncommitted())), "values")
}

func tooLarge(ctx context.Context) {
	limit := "2000"
	name := topic(ctx, 1, map[string]*string{"max.message.bytes": &limit})
	client := newClient(kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer client.Close()
	err := client.ProduceSync(ctx, &kgo.Record{Topic: name, Value: make([]byte, 10_000)}).FirstErr()
	if !errors.Is(err, kerr.MessageTooLarge) {
		panic(fmt.Sprintf("expected MESSAGE_TOO_LARGE, found %v", err))
	}
}

func times(ctx context.Context) {
	name := topic(ctx, 1, nil)
	base := time.Now().Add(-time.Hour).UnixMilli()
	client := newClient(kgo.ProducerLinger(50 * time.Millisecond))
	defer client.Close()
	records := make([]*kgo.Record, 100)
	for i := range records {
		records[i] = &kgo.Record{Topic: name, Value: []byte("v"), Timestamp: time.UnixMilli(base + int64(i)*10)}
	}
	check(client.ProduceSync(ctx, records...).FirstErr())
	admin := kadm.NewClient(client)
	found := must(admin.ListOffsetsAfterMilli(ctx, base+365, name))
	equal(37, found[name][0].Offset, "offset of a time")
	newest := must(admin.ListMaxTimestampOffsets(ctx, name))
	equal(99, newest[name][0].Offset, "offset of the newest timestamp")
}

// member is a group member that polls on a goroutine of its own and commits before it loses a partition.
type member struct {
	client  *kgo.Client
	mutex   sync.Mutex
	owned   map[int32]bool
	records []*kgo.Record
	done    chan struct{}
}

func join(group, name string, balancer kgo.GroupBalancer) *member {
	m := &member{owned: map[int32]bool{}, done: make(chan struct{})}
	change := func(have bool, commit bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(ctx context.Context, client *kgo.Client, partitions map[string][]int32) {
			if commit {
				check(client.CommitUncommittedOffsets(ctx))
			}
			m.mutex.Lock()
			defer m.mutex.Unlock()
			for _, partition := range partitions[name] {
				if have {
					m.owned[partition] = true
				} else {
					delete(m.owned, partition)
				}
			}
		}
	}
	m.client = newClient(kgo.ConsumerGroup(group), kgo.ConsumeTopics(name), kgo.Balancers(balancer),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.HeartbeatInterval(300*time.Millisecond), kgo.SessionTimeout(10*time.Second),
		kgo.OnPartitionsAssigned(change(true, false)), kgo.OnPartitionsRevoked(change(false, true)),
		kgo.OnPartitionsLost(change(false, false)))
	go func() {
		defer close(m.done)
		for {
			fetches := m.client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			m.mutex.Lock()
			m.records = append(m.records, fetches.Records()...)
			m.mutex.Unlock()
			m.client.AllowRebalance()
		}
	}()
	return m
}

func (m *member) leave() {
	m.client.CloseAllowingRebalance()
	<-m.done
}

func (m *member) state() (owned int, records []*kgo.Record) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return len(m.owned), m.records
}

func owned(ctx context.Context, sizes []int, members ...*member) {
	eventually(ctx, fmt.Sprintf("members own %v partitions", sizes), func() bool {
		found := []int{}
		for _, m := range members {
			count, _ := m.state()
			found = append(found, count)
		}
		sort.Ints(found)
		return fmt.Sprint(found) == fmt.Sprint(sizes)
	})
}

func group(ctx context.Context, balancer kgo.GroupBalancer) {
	name, id := topic(ctx, 6, nil), unique("group")
	first := join(id, name, balancer)
	owned(ctx, []int{6}, first)
	second := join(id, name, balancer)
	owned(ctx, []int{3, 3}, first, second)
	third := join(id, name, balancer)
	members := []*member{first, second, third}
	owned(ctx, []int{2, 2, 2}, members...)
	sent := produce(ctx, name, "v", 300)
	everything := func() []*kgo.Record {
		all := []*kgo.Record{}
		for _, m := range members {
			_, records := m.state()
			all = append(all, records...)
		}
		return all
	}
	eventually(ctx, "300 records", func() bool { return len(everything()) >= 300 })
	first.leave()
	owned(ctx, []int{3, 3}, second, third)
	sent = append(sent, produce(ctx, name, "w", 60)...)
	eventually(ctx, "360 records", func() bool { return len(everything()) >= 360 })
	second.leave()
	third.leave()
	equal(values(sent), values(everything()), "values of all members: nothing twice, nothing lost")
}

func transactions(ctx context.Context) {
	name, id := topic(ctx, 2, nil), unique("tx")
	first := newClient(kgo.TransactionalID(id), kgo.DefaultProduceTopic(name))
	defer first.Close()
	for round, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		check(first.BeginTransaction())
		check(first.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(round))).FirstErr())
		check(first.EndTransaction(ctx, end))
	}
	check(first.BeginTransaction())
	check(first.ProduceSync(ctx, kgo.StringRecord("of the zombie")).FirstErr())
	second := newClient(kgo.TransactionalID(id), kgo.DefaultProduceTopic(name))
	defer second.Close()
	check(second.BeginTransaction())
	check(second.ProduceSync(ctx, kgo.StringRecord("of the successor")).FirstErr())
	check(second.EndTransaction(ctx, kgo.TryCommit))
	if first.EndTransaction(ctx, kgo.TryCommit) == nil {
		panic("expected a fenced producer's commit to fail")
	}
	equal("0,2,of the successor", values(readAll(ctx, name, kgo.ReadCommitted())), "committed values")
	equal(5, len(readAll(ctx, name, kgo.ReadUncommitted())), "all records")
}

func consumeTransformProduce(ctx context.Context) {
	source, target, id := topic(ctx, 2, nil), topic(ctx, 1, nil), unique("group")
	produce(ctx, source, "v", 200)
	session := must(kgo.NewGroupTransactSession(kgo.SeedBrokers(bootstrap), kgo.TransactionalID(unique("tx")),
		kgo.ConsumerGroup(id), kgo.ConsumeTopics(source), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RequireStableFetchOffsets(),
		kgo.FetchMaxWait(100*time.Millisecond)))
	defer session.Close()
	for done, round := 0, 0; done < 200; {
		fetches := session.PollRecords(ctx, 30)
		check(fetches.Err())
		records := fetches.Records()
		if len(records) == 0 {
			continue
		}
		check(session.Begin())
		for _, record := range records {
			session.Produce(ctx, &kgo.Record{Topic: target, Value: append([]byte("copy of "), record.Value...)}, nil)
		}
		round++
		if must(session.End(ctx, kgo.TransactionEndTry(round%3 != 0))) {
			done += len(records)
		}
	}
	expected := make([]*kgo.Record, 200)
	for i := range expected {
		expected[i] = &kgo.Record{Value: fmt.Appendf(nil, "copy of v%d", i)}
	}
	equal(values(expected), values(readAll(ctx, target, kgo.ReadCommitted())), "copies")
	offsets := must(kadm.NewClient(session.Client()).FetchOffsets(ctx, id))
	sum := int64(0)
	offsets.Each(func(offset kadm.OffsetResponse) { sum += offset.At })
	equal(200, sum, "sum of the committed offsets")
}

func administration(ctx context.Context) {
	retention := "60000"
	name, id := topic(ctx, 2, map[string]*string{"retention.ms": &retention}), unique("group")
	produce(ctx, name, "v", 50)
	client := newClient()
	defer client.Close()
	admin := kadm.NewClient(client)
	member := join(id, name, kgo.RangeBalancer())
	owned(ctx, []int{2}, member)
	eventually(ctx, "50 records", func() bool { _, records := member.state(); return len(records) == 50 })
	described := must(admin.DescribeGroups(ctx, id))
	equal("Stable", described[id].State, "state of the group")
	member.leave()
	offsets := must(admin.FetchOffsets(ctx, id))
	sum := int64(0)
	offsets.Each(func(offset kadm.OffsetResponse) { sum += offset.At })
	equal(50, sum, "sum of the committed offsets")
	configs := must(admin.DescribeTopicConfigs(ctx, name))
	found := ""
	for _, config := range configs[0].Configs {
		if config.Key == "retention.ms" {
			found = config.MaybeValue()
		}
	}
	equal(retention, found, "retention.ms")
	changed := "70000"
	altered := must(admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &changed}}, name))
	check(altered[0].Err)
	grown := must(admin.UpdatePartitions(ctx, 4, name))
	check(grown[name].Err)
	must(admin.DeleteRecords(ctx, kadm.Offsets{name: {0: {Topic: name, Partition: 0, At: 1}}}))
	starts := must(admin.ListStartOffsets(ctx, name))
	equal(1, starts[name][0].Offset, "beginning after deleted records")
	must(admin.DeleteGroups(ctx, id))
	must(admin.DeleteTopics(ctx, name))
	metadata := must(admin.Metadata(ctx))
	equal(1, len(metadata.Brokers), "brokers")
}
