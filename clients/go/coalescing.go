package registry

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	registryv1 "nexuspro.io/registry/ose/registry/v1"
)

// A call costs a client and a server several times what is done for it. So what is asked while calls like it
// are under way is gathered, and asked for together as soon as one of them has returned: who is alone never
// waits, and the more there is to do the less each of it costs.

const (
	lanes      = 2
	mostReads  = 100
	mostWrites = 250
	mostBytes  = 1 << 20
)

// joining makes unary calls, and of those that may be joined few; see [WithCoalescing].
type joining struct {
	calls calls

	mu         sync.Mutex
	gatherings map[kind]*gathering
}

// kind is what calls that are joined have in common.
type kind struct {
	reads    bool
	options  string // Of reads: how they read.
	metadata string
}

// gathering is the calls of one kind: how many are under way, alone or joined, and which wait.
type gathering struct {
	underWay int
	queue    []*waiting
}

// waiting is a call that waits until it is made, and then for its outcome. The request is a copy: its
// caller may be gone by then.
type waiting struct {
	ctx     context.Context
	call    unaryCall
	method  string
	request proto.Message
	answer  proto.Message
	outcome chan error // After nil there is an answer.
	batch   *batch     // Once it is made.
}

// batch is calls that are made together, and how many of their callers are still there.
type batch struct {
	ctx     context.Context
	cancel  context.CancelFunc
	waiting []*waiting
	callers int
}

type unaryCall func(ctx context.Context, method string, request, answer any) error

func newJoining() *joining { return &joining{gatherings: map[kind]*gathering{}} }

func (j *joining) unary(
	ctx context.Context, method string, request, answer any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	call := func(ctx context.Context, method string, request, answer any) error {
		return j.calls.unary(ctx, method, request, answer, conn, invoke, opts...)
	}
	kind, joins := kindOf(ctx, request, opts)
	if !joins {
		return call(ctx, method, request, answer)
	}
	ctx, cancel := j.calls.bounded(ctx)
	defer cancel()
	one := j.enter(ctx, kind, method, request.(proto.Message), answer.(proto.Message), call)
	if one == nil {
		defer j.next(kind)
		return call(ctx, method, request, answer)
	}
	select {
	case err := <-one.outcome:
		if err != nil {
			return fromStatus(err) // One of the caller's own: others may have failed with it.
		}
		made := answer.(proto.Message)
		proto.Reset(made)
		proto.Merge(made, one.answer)
		return nil
	case <-ctx.Done():
		j.leave(kind, one)
		return fromStatus(status.FromContextError(ctx.Err()).Err())
	}
}

// kindOf is the kind of a call that may be joined. One that has options of its own may not: they come after
// the mark that the stub sets, and those of the connection before it.
func kindOf(ctx context.Context, request any, opts []grpc.CallOption) (kind, bool) {
	if len(opts) == 0 {
		return kind{}, false
	}
	if _, bare := opts[len(opts)-1].(grpc.StaticMethodCallOption); !bare {
		return kind{}, false
	}
	if read, reads := request.(*registryv1.GetEntityRequest); reads {
		options, err := proto.MarshalOptions{Deterministic: true}.Marshal(batchGet(read))
		return kind{reads: true, options: string(options), metadata: sent(ctx)}, err == nil
	}
	return kind{metadata: sent(ctx)}, mutationOf(request) != nil
}

// sent is the metadata that a call is made with.
func sent(ctx context.Context) string {
	given, _ := metadata.FromOutgoingContext(ctx)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(given)) {
		fmt.Fprintf(&text, "%q%q", name, given[name])
	}
	return text.String()
}

// enter begins a call, or answers what waits for it if there are enough under way.
func (j *joining) enter(
	ctx context.Context, k kind, method string, request, answer proto.Message, call unaryCall,
) *waiting {
	j.mu.Lock()
	defer j.mu.Unlock()
	g := j.gatherings[k]
	if g == nil {
		g = &gathering{}
		j.gatherings[k] = g
	}
	if g.underWay < lanes {
		g.underWay++
		return nil
	}
	one := &waiting{
		ctx: ctx, call: call, method: method, request: proto.Clone(request),
		answer: answer.ProtoReflect().New().Interface(), outcome: make(chan error, 1),
	}
	g.queue = append(g.queue, one)
	return one
}

// next follows a call or a batch that is over.
func (j *joining) next(k kind) {
	j.mu.Lock()
	defer j.mu.Unlock()
	g := j.gatherings[k]
	if len(g.queue) > 0 {
		go j.make(k, g.take(k))
		return
	}
	g.underWay--
	if g.underWay == 0 {
		delete(j.gatherings, k)
	}
}

// leave is for a caller that has given up. A batch that nobody waits for any more is not, either.
func (j *joining) leave(k kind, one *waiting) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if one.batch == nil {
		queue := &j.gatherings[k].queue
		*queue = slices.DeleteFunc(*queue, func(other *waiting) bool { return other == one })
		return
	}
	one.batch.callers--
	if one.batch.callers == 0 {
		one.batch.cancel()
	}
}

// take is the next batch of what waits.
func (g *gathering) take(k kind) *batch {
	most := mostWrites
	if k.reads {
		most = mostReads
	}
	count, bytes := 0, 0
	for count < min(len(g.queue), most) {
		bytes += proto.Size(g.queue[count].request)
		if count > 0 && bytes > mostBytes {
			break
		}
		count++
	}
	made := newBatch(slices.Clone(g.queue[:count]))
	g.queue = slices.Delete(g.queue, 0, count)
	return made
}

// newBatch has a context of its own, which lasts as long as any caller's does.
func newBatch(taken []*waiting) *batch {
	sent, _ := metadata.FromOutgoingContext(taken[0].ctx)
	ctx := metadata.NewOutgoingContext(context.Background(), sent)
	made := &batch{waiting: taken, callers: len(taken)}
	if last, bounded := lastDeadline(taken); bounded {
		made.ctx, made.cancel = context.WithDeadline(ctx, last)
	} else {
		made.ctx, made.cancel = context.WithCancel(ctx)
	}
	for _, one := range taken {
		one.batch = made
	}
	return made
}

func lastDeadline(taken []*waiting) (last time.Time, bounded bool) {
	for _, one := range taken {
		deadline, has := one.ctx.Deadline()
		if !has {
			return time.Time{}, false
		}
		if deadline.After(last) {
			last = deadline
		}
	}
	return last, true
}

func (j *joining) make(k kind, b *batch) {
	defer j.next(k)
	defer b.cancel()
	switch {
	case len(b.waiting) == 1:
		b.waiting[0].alone()
	case k.reads:
		b.read()
	default:
		b.write()
	}
}

// alone makes a call as it was asked for.
func (w *waiting) alone() { w.outcome <- w.call(w.ctx, w.method, w.request, w.answer) }

func (b *batch) call(method string, request, answer proto.Message) error {
	return b.waiting[0].call(b.ctx, method, request, answer)
}

func (b *batch) fail(err error) {
	for _, one := range b.waiting {
		one.outcome <- err
	}
}

func (b *batch) read() {
	request := batchGet(b.waiting[0].request.(*registryv1.GetEntityRequest))
	asked := map[string]bool{}
	for _, one := range b.waiting {
		if id := one.id(); !asked[id] {
			asked[id] = true
			request.Ids = append(request.Ids, id)
		}
	}
	answer := &registryv1.BatchGetEntitiesResponse{}
	err := b.call(registryv1.EntityService_BatchGetEntities_FullMethodName, request, answer)
	if status.Code(err) == codes.InvalidArgument {
		// It is one of them, and each is to hear of its own.
		var all sync.WaitGroup
		for _, one := range b.waiting {
			all.Go(one.alone)
		}
		all.Wait()
		return
	}
	if err != nil {
		b.fail(err)
		return
	}
	found := map[string]*registryv1.Entity{}
	for _, entity := range answer.GetEntities() {
		found[entity.GetId()] = entity
	}
	for _, one := range b.waiting {
		if entity := found[one.id()]; entity != nil {
			one.answer = entity
			one.outcome <- nil
		} else {
			one.outcome <- missing(one.id(), answer.GetRevision())
		}
	}
}

func (w *waiting) id() string { return w.request.(*registryv1.GetEntityRequest).GetId() }

func (b *batch) write() {
	request := &registryv1.WriteRequest{Independent: true, IdempotencyKey: rand.Text()}
	for _, one := range b.waiting {
		request.Mutations = append(request.Mutations, mutationOf(one.request))
	}
	answer := &registryv1.WriteResponse{}
	err := b.call(registryv1.RegistryService_Write_FullMethodName, request, answer)
	if err == nil && len(answer.GetResults()) != len(b.waiting) {
		err = status.Errorf(codes.Internal, "%d results of %d mutations",
			len(answer.GetResults()), len(b.waiting))
	}
	if err != nil {
		b.fail(err)
		return
	}
	for number, result := range answer.GetResults() {
		b.waiting[number].tell(result)
	}
}

func (w *waiting) tell(result *registryv1.MutationResult) {
	if said := result.GetError(); said != nil {
		w.outcome <- status.ErrorProto(asOwn(said))
		return
	}
	if _, isEntity := w.answer.(*registryv1.Entity); isEntity {
		w.answer = result.GetEntity()
	} else {
		w.answer = result.GetRelationship()
	}
	w.outcome <- nil
}
