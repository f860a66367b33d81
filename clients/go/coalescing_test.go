package registry_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"nexuspro.io/registry"
	registryv1 "nexuspro.io/registry/ose/registry/v1"
)

// Where a new registry is served.
const coalescingVariable = "REGISTRY_COALESCING"

// joinable answers no call before its gate is open, and knows the entities whose ids begin with "a".
type joinable struct {
	registryv1.UnimplementedEntityServiceServer
	registryv1.UnimplementedRegistryServiceServer

	gate   chan struct{}
	fails  error      // What batches fail with.
	silent chan error // If it is there, batches of reads say that they have begun, and ended.
	client *registry.Client
	queued func() int

	mu      sync.Mutex
	gets    []*registryv1.GetEntityRequest
	creates []*registryv1.CreateEntityRequest
	batches []*registryv1.BatchGetEntitiesRequest
	writes  []*registryv1.WriteRequest
}

// gated serves a registry whose gate is shut.
func gated(t *testing.T, server *joinable) *joinable {
	t.Helper()
	server.gate = make(chan struct{})
	coalescing, queued := registry.CoalescingSeen()
	server.queued = queued
	server.client = serve(t, func(to *grpc.Server) {
		registryv1.RegisterEntityServiceServer(to, server)
		registryv1.RegisterRegistryServiceServer(to, server)
	}, coalescing)
	return server
}

func (s *joinable) GetEntity(
	_ context.Context, request *registryv1.GetEntityRequest,
) (*registryv1.Entity, error) {
	s.mu.Lock()
	s.gets = append(s.gets, request)
	s.mu.Unlock()
	<-s.gate
	if !strings.HasPrefix(request.GetId(), "a") {
		return nil, refusal(codes.NotFound, "ENTITY_NOT_FOUND")
	}
	return &registryv1.Entity{Id: request.GetId(), Labels: map[string]string{"a": "b"}}, nil
}

func (s *joinable) BatchGetEntities(
	ctx context.Context, request *registryv1.BatchGetEntitiesRequest,
) (*registryv1.BatchGetEntitiesResponse, error) {
	s.mu.Lock()
	s.batches = append(s.batches, request)
	s.mu.Unlock()
	if s.silent != nil {
		s.silent <- nil
		<-ctx.Done()
		// At its deadline a client resets the stream, which looks the same.
		if last, _ := ctx.Deadline(); time.Until(last) < time.Second {
			s.silent <- context.DeadlineExceeded
		}
		s.silent <- ctx.Err()
	}
	if s.fails != nil {
		return nil, s.fails
	}
	answer := &registryv1.BatchGetEntitiesResponse{Revision: 7}
	for _, id := range request.GetIds() {
		if strings.HasPrefix(id, "a") {
			one := &registryv1.Entity{Id: id, Labels: map[string]string{"a": "b"}}
			answer.Entities = append(answer.Entities, one)
		}
	}
	return answer, nil
}

func (s *joinable) CreateEntity(
	_ context.Context, request *registryv1.CreateEntityRequest,
) (*registryv1.Entity, error) {
	s.mu.Lock()
	s.creates = append(s.creates, request)
	s.mu.Unlock()
	<-s.gate
	return request.GetEntity(), nil
}

func (s *joinable) Write(
	_ context.Context, request *registryv1.WriteRequest,
) (*registryv1.WriteResponse, error) {
	s.mu.Lock()
	s.writes = append(s.writes, request)
	s.mu.Unlock()
	if s.fails != nil {
		return nil, s.fails
	}
	answer := &registryv1.WriteResponse{}
	for _, mutation := range request.GetMutations() {
		answer.Results = append(answer.Results, &registryv1.MutationResult{
			Resource: &registryv1.MutationResult_Entity{Entity: mutation.GetCreateEntity()},
		})
	}
	return answer, nil
}

// outcome is what a call came to.
type outcome struct {
	answer proto.Message
	err    error
}

// atOnce makes calls: two, and then, while those are at the gate, as many as wait; then it opens the gate.
func (s *joinable) atOnce(t *testing.T, calls ...func() (proto.Message, error)) []outcome {
	t.Helper()
	found := make([]outcome, len(calls))
	var all sync.WaitGroup
	for number, call := range calls {
		all.Go(func() { found[number].answer, found[number].err = call() })
		s.await(t, func() bool { return s.queued() == max(number-1, 0) && s.asked() == min(number+1, 2) })
	}
	close(s.gate)
	all.Wait()
	return found
}

// asked is how many single calls have arrived.
func (s *joinable) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.gets) + len(s.creates)
}

func (s *joinable) await(t *testing.T, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(limit) {
			t.Fatalf("%d calls wait, %d have arrived", s.queued(), s.asked())
		}
	}
}

func (s *joinable) get(ctx context.Context, id string) func() (proto.Message, error) {
	return func() (proto.Message, error) {
		return s.client.Entities.GetEntity(ctx, &registryv1.GetEntityRequest{Id: id})
	}
}

func (s *joinable) create(ctx context.Context, entity *registryv1.Entity) func() (proto.Message, error) {
	return func() (proto.Message, error) {
		return s.client.Entities.CreateEntity(ctx, &registryv1.CreateEntityRequest{Entity: entity})
	}
}

// Reads that are made while two are under way are one call, and each has what a single one would have.
func TestManyReadsAreFew(t *testing.T) {
	server := gated(t, &joinable{})
	calls := []func() (proto.Message, error){}
	for n := range 102 {
		calls = append(calls, server.get(t.Context(), fmt.Sprint("a", n/2)))
	}
	calls[50] = server.get(t.Context(), "b")
	found := server.atOnce(t, calls...)
	if len(server.gets) != 2 || len(server.batches) != 1 {
		t.Fatalf("%d reads and %d batches", len(server.gets), len(server.batches))
	}
	if ids := server.batches[0].GetIds(); len(ids) != 51 || !slices.Contains(ids, "b") {
		t.Errorf("asked for %q", ids)
	}
	for number, one := range found {
		if number == 50 {
			continue
		}
		if entity, is := one.answer.(*registryv1.Entity); !is || entity.GetId() != fmt.Sprint("a", number/2) {
			t.Errorf("call %d was answered %v, %v", number, one.answer, one.err)
		}
	}
	found[20].answer.(*registryv1.Entity).Labels["a"] = "mine"
	if found[21].answer.(*registryv1.Entity).GetLabels()["a"] != "b" {
		t.Error("an answer is not the caller's own")
	}
	var failed *registry.Error
	if !errors.As(found[50].err, &failed) || failed.Code != codes.NotFound ||
		failed.Reason != registryv1.ErrorReason_ERROR_REASON_ENTITY_NOT_FOUND ||
		!reflect.DeepEqual(failed.Metadata, map[string]string{"id": "b", "revision": "7"}) {
		t.Errorf("what is not there is %+v", found[50].err)
	}
}

// So are writes, as many as 250 and as large as 1 MiB together.
func TestManyWritesAreFew(t *testing.T) {
	for name, one := range map[string]struct {
		count, bytes int
		batches      []int
	}{
		"count": {2 + 250 + 10, 1, []int{250, 10}},
		"bytes": {2 + 5, 400 << 10, []int{2, 2}}, // And the last one alone.
	} {
		t.Run(name, func(t *testing.T) {
			server := gated(t, &joinable{})
			calls := []func() (proto.Message, error){}
			for n := range one.count {
				entity := &registryv1.Entity{Id: fmt.Sprint(n), Name: strings.Repeat("x", one.bytes)}
				calls = append(calls, server.create(t.Context(), entity))
			}
			for number, told := range server.atOnce(t, calls...) {
				if made, is := told.answer.(*registryv1.Entity); !is || made.GetId() != fmt.Sprint(number) {
					t.Errorf("call %d was answered %v, %v", number, told.answer, told.err)
				}
			}
			sizes := []int{}
			keys := map[string]bool{"": true}
			for _, write := range server.writes {
				sizes = append(sizes, len(write.GetMutations()))
				keys[write.GetIdempotencyKey()] = true
				if !write.GetIndependent() {
					t.Error("a batch is not of independent writes")
				}
			}
			slices.Sort(sizes)
			slices.Reverse(sizes)
			if !slices.Equal(sizes, one.batches) || len(keys) != len(sizes)+1 {
				t.Errorf("batches of %d, with %d keys", sizes, len(keys)-1)
			}
		})
	}
}

// What a batch fails with is told to each caller, in an error of its own.
func TestAFailureIsEveryCallers(t *testing.T) {
	server := gated(t, &joinable{fails: refusal(codes.ResourceExhausted, "OVERLOADED")})
	calls := []func() (proto.Message, error){}
	for n := range 4 {
		calls = append(calls, server.create(t.Context(), &registryv1.Entity{Id: fmt.Sprint(n)}))
	}
	found := server.atOnce(t, calls...)
	var one, other *registry.Error
	if !errors.As(found[2].err, &one) || !errors.As(found[3].err, &other) || one == other {
		t.Fatalf("failed with %v, %v", found[2].err, found[3].err)
	}
	if one.ReasonText != "OVERLOADED" || other.ReasonText != "OVERLOADED" {
		t.Errorf("failed with %v, %v", one, other)
	}
}

// A batch of reads that is malformed is asked for one by one, so that each hears of its own.
func TestAMalformedReadIsAlone(t *testing.T) {
	server := gated(t, &joinable{fails: refusal(codes.InvalidArgument, "INVALID_ARGUMENT")})
	found := server.atOnce(t,
		server.get(t.Context(), "a0"), server.get(t.Context(), "a1"), server.get(t.Context(), "a2"),
		server.get(t.Context(), "b"),
	)
	if len(server.batches) != 1 || len(server.gets) != 4 {
		t.Errorf("%d batches, %d reads", len(server.batches), len(server.gets))
	}
	if found[2].err != nil || status.Code(found[3].err) != codes.NotFound {
		t.Errorf("failed with %v, %v", found[2].err, found[3].err)
	}
}

// A caller that is cancelled, or whose time is up, is alone with that; the others are answered.
func TestWhoGivesUpIsAlone(t *testing.T) {
	server := gated(t, &joinable{})
	ended, cancel := context.WithCancel(t.Context())
	late, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	go func() {
		server.await(t, func() bool { return server.queued() == 1 })
		cancel()
	}()
	found := make([]outcome, 4)
	var all sync.WaitGroup
	for n := range 2 {
		all.Go(func() { _, found[n].err = server.get(t.Context(), "a")() })
	}
	server.await(t, func() bool { return server.asked() == 2 })
	if _, err := server.get(ended, "a9")(); !errors.Is(err, context.Canceled) {
		t.Errorf("failed with %v", err)
	}
	if _, err := server.get(late, "a9")(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("failed with %v", err)
	}
	for n := range 2 {
		all.Go(func() { _, found[n+2].err = server.get(t.Context(), "a")() })
	}
	server.await(t, func() bool { return server.queued() == 2 })
	close(server.gate)
	all.Wait()
	for _, one := range found {
		if one.err != nil {
			t.Errorf("another failed with %v", one.err)
		}
	}
	if ids := server.batches[0].GetIds(); !slices.Equal(ids, []string{"a"}) {
		t.Errorf("asked for %q", ids)
	}
}

// A batch is waited for by those that are left, and abandoned when none is.
func TestABatchLastsAsLongAsItsCallers(t *testing.T) {
	server := gated(t, &joinable{silent: make(chan error)})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() { _, _ = server.get(t.Context(), "a")() })
	}
	server.await(t, func() bool { return server.asked() == 2 })
	var callers [2]struct {
		ctx   context.Context
		leave context.CancelFunc
		err   chan error
	}
	for n := range callers {
		one := &callers[n]
		one.ctx, one.leave = context.WithCancel(t.Context())
		one.err = make(chan error, 1)
		go func() {
			_, err := server.get(one.ctx, "a")()
			one.err <- err
		}()
	}
	server.await(t, func() bool { return server.queued() == 2 })
	close(server.gate)
	<-server.silent
	callers[0].leave()
	if err := <-callers[0].err; !errors.Is(err, context.Canceled) {
		t.Errorf("failed with %v", err)
	}
	select {
	case <-server.silent:
		t.Error("the other was not waited for")
	default:
	}
	callers[1].leave()
	if err := <-server.silent; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	<-callers[1].err
	all.Wait()
}

// What differs in more than the id is not joined, and what is not joined is made at once.
func TestWhatIsNotJoined(t *testing.T) {
	server := gated(t, &joinable{})
	ctx := t.Context()
	asA := metadata.AppendToOutgoingContext(ctx, "x-user", "a")
	entities := server.client.Entities
	read := func(ctx context.Context, one *registryv1.GetEntityRequest, opts ...grpc.CallOption) error {
		one.Id = "a"
		_, err := entities.GetEntity(ctx, one, opts...)
		return err
	}
	write := func(ctx context.Context, one *registryv1.CreateEntityRequest) error {
		_, err := entities.CreateEntity(ctx, one)
		return err
	}
	entity := &registryv1.Entity{Id: "a"}
	calls := []func() error{
		func() error { return read(ctx, &registryv1.GetEntityRequest{}) },
		func() error { return read(asA, &registryv1.GetEntityRequest{}) },
		func() error { return read(ctx, &registryv1.GetEntityRequest{AtRevision: 3}) },
		func() error { return read(ctx, &registryv1.GetEntityRequest{StaleOk: true}) },
		func() error { return read(ctx, &registryv1.GetEntityRequest{}, grpc.Header(&metadata.MD{})) },
		func() error { return write(ctx, &registryv1.CreateEntityRequest{Entity: entity}) },
		func() error { return write(asA, &registryv1.CreateEntityRequest{Entity: entity}) },
		func() error { return write(ctx, &registryv1.CreateEntityRequest{}) },
		func() error { return write(ctx, &registryv1.CreateEntityRequest{Entity: entity, DryRun: true}) },
		func() error {
			return write(ctx, &registryv1.CreateEntityRequest{Entity: entity, IdempotencyKey: "mine"})
		},
	}
	var all sync.WaitGroup
	for _, call := range calls {
		for range 2 {
			all.Go(func() {
				if err := call(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	server.await(t, func() bool { return server.asked() == 2*len(calls) })
	close(server.gate)
	all.Wait()
	if len(server.batches)+len(server.writes) > 0 {
		t.Error("some were joined")
	}
}

// Batches of reads read as their calls do, with their metadata.
func TestReadOptions(t *testing.T) {
	at := timestamppb.New(time.Unix(1e9, 0))
	for _, one := range []*registryv1.GetEntityRequest{
		{AtRevision: 3}, {MinRevision: 4}, {StaleOk: true}, {AtTime: at},
	} {
		server := gated(t, &joinable{})
		one.Id = "a"
		call := func() (proto.Message, error) { return server.client.Entities.GetEntity(t.Context(), one) }
		server.atOnce(t, call, call, call, call)
		asked := &registryv1.GetEntityRequest{
			Id: "a", AtRevision: server.batches[0].GetAtRevision(), StaleOk: server.batches[0].GetStaleOk(),
			MinRevision: server.batches[0].GetMinRevision(), AtTime: server.batches[0].GetAtTime(),
		}
		if !proto.Equal(one, asked) {
			t.Errorf("asked for %v instead of %v", asked, one)
		}
	}
}

// What a registry answers to calls that are made at once is what it answers to single ones.
func TestAnswersAreThoseOfSingleCalls(t *testing.T) {
	target := os.Getenv(coalescingVariable)
	if target == "" {
		t.Skipf("needs a server, in %s: run tests/clients/test_languages.py", coalescingVariable)
	}
	var found [2][]string
	for n, opts := range [][]registry.Option{{registry.WithCoalescing()}, {}} {
		client, err := registry.Dial(target, opts...)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		prefix := []string{"one-", "two-"}[n]
		for _, calls := range sameCalls(client, prefix) {
			found[n] = append(found[n], answers(t.Context(), calls, prefix, n == 0)...)
		}
	}
	kinds := map[string]bool{}
	for n, one := range found[0] {
		if one != found[1][n] {
			t.Errorf("call %d: joined\n%s\nand alone\n%s", n, one, found[1][n])
		}
		kind, _, _ := strings.Cut(one, ":")
		kinds[kind] = true
	}
	if len(kinds) < 8 {
		t.Errorf("only %q", slices.Collect(maps.Keys(kinds)))
	}
}

type anyCall = func(context.Context) (proto.Message, error)

// sameCalls are rounds of calls whose ids have a prefix.
func sameCalls(client *registry.Client, prefix string) [][]anyCall {
	thing := func(id string) *registryv1.Entity {
		return &registryv1.Entity{Id: prefix + id, Type: "thing", Name: prefix + id}
	}
	create := func(entity *registryv1.Entity) anyCall {
		return func(ctx context.Context) (proto.Message, error) {
			return client.Entities.CreateEntity(ctx, &registryv1.CreateEntityRequest{Entity: entity})
		}
	}
	get := func(request *registryv1.GetEntityRequest) anyCall {
		return func(ctx context.Context) (proto.Message, error) {
			return client.Entities.GetEntity(ctx, request)
		}
	}
	update := func(request *registryv1.UpdateEntityRequest) anyCall {
		return func(ctx context.Context) (proto.Message, error) {
			return client.Entities.UpdateEntity(ctx, request)
		}
	}
	relate := func(id, target string) anyCall {
		return func(ctx context.Context) (proto.Message, error) {
			made := &registryv1.Relationship{
				Id: prefix + id, SourceId: prefix + "1", TargetId: prefix + target, Type: "needs",
			}
			request := &registryv1.CreateRelationshipRequest{Relationship: made}
			return client.Relationships.CreateRelationship(ctx, request)
		}
	}
	change := func(request *registryv1.UpdateRelationshipRequest) anyCall {
		return func(ctx context.Context) (proto.Message, error) {
			return client.Relationships.UpdateRelationship(ctx, request)
		}
	}
	first := []anyCall{}
	for n := range 20 {
		first = append(first, create(thing(fmt.Sprint(n))))
	}
	mask := &fieldmaskpb.FieldMask{Paths: []string{"nothing"}}
	renamed := thing("1")
	renamed.Version = "2"
	second := []anyCall{
		create(thing("3")), create(&registryv1.Entity{Id: prefix + "x", Type: "no type", Name: "x"}), create(nil),
		relate("r2", "2"), relate("r3", "3"), relate("r77", "77"),
		update(&registryv1.UpdateEntityRequest{Entity: renamed}),
		update(&registryv1.UpdateEntityRequest{Entity: renamed, UpdateMask: mask}),
		update(&registryv1.UpdateEntityRequest{Entity: thing("9"), ExpectedRevision: 1}),
		update(&registryv1.UpdateEntityRequest{Entity: thing("no such")}), update(&registryv1.UpdateEntityRequest{}),
	}
	third := []anyCall{
		get(&registryv1.GetEntityRequest{Id: prefix + "none"}),
		get(&registryv1.GetEntityRequest{Id: prefix + "1", AtRevision: 1e6}),
	}
	for n := range 25 {
		third = append(third, get(&registryv1.GetEntityRequest{Id: fmt.Sprint(prefix, n)}))
	}
	weight := 0.5
	for _, id := range []string{"r2", "r3", "r9"} {
		third = append(third, change(&registryv1.UpdateRelationshipRequest{
			Relationship: &registryv1.Relationship{Id: prefix + id, Weight: &weight},
		}))
	}
	fourth := slices.Concat(slices.Repeat(third[:1], 3), []anyCall{get(&registryv1.GetEntityRequest{Id: "no id"})})
	return [][]anyCall{first, second, third, fourth}
}

var numbers = regexp.MustCompile(`\d{2,}`)

// answers tells what calls come to, but for times and revisions.
func answers(ctx context.Context, calls []anyCall, prefix string, atOnce bool) []string {
	found := make([]string, len(calls))
	var all sync.WaitGroup
	for number, call := range calls {
		make := func() {
			answer, err := call(ctx)
			text := fmt.Sprintf("%T %v", answer, err)
			var failed *registry.Error
			if errors.As(err, &failed) {
				failed.Metadata["revision"] = ""
				text = fmt.Sprintf("%v %s %v", failed.Code, failed, failed.Metadata)
			} else if named, is := answer.(interface{ GetId() string }); is && err == nil {
				text += named.GetId()
			}
			found[number] = numbers.ReplaceAllString(strings.ReplaceAll(text, prefix, ""), "N")
		}
		if atOnce {
			all.Go(make)
		} else {
			make()
		}
	}
	all.Wait()
	return found
}
