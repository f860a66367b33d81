package registry

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/protobuf/proto"

	registryv1 "nexuspro.io/registry/ose/registry/v1"
)

// UpdateKind is what an [Update] says.
type UpdateKind int

const (
	// Changes has Events, of one or more whole revisions up to Revision.
	Changes UpdateKind = iota + 1
	// Bookmark says that nothing else matched up to Revision.
	Bookmark
	// Snapshot is a part of the snapshot: Entities, Relationships.
	Snapshot
	// SnapshotEnd says that the snapshot is complete, and is of Revision.
	SnapshotEnd
	// Reset says that the changes behind the update before are forgotten (reset_on_compaction was asked
	// for): drop all that the watch has said; a snapshot, its end, and the changes after it follow.
	Reset
	// Restarted says that the connection broke within the snapshot: drop its parts, all of them come
	// again.
	Restarted
)

var kindNames = [...]string{
	"unknown", "changes", "bookmark", "snapshot", "snapshot end", "reset", "restarted",
}

// String is the kind in words.
func (k UpdateKind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		k = 0
	}
	return kindNames[k]
}

// Update is one thing that a watch has to say.
type Update struct {
	// Kind is what it says, and which of the other fields are set.
	Kind UpdateKind
	// Revision is up to where all that matches has been handed over; 0 within a snapshot.
	Revision int64
	// ResumeToken continues after this update, also in another process; empty within a snapshot.
	ResumeToken string
	// Events has the changes, in the order in which they were committed.
	Events []*registryv1.Event
	// Entities has entities of the snapshot, in order of creation.
	Entities []*registryv1.Entity
	// Relationships has relationships of the snapshot; they come after all entities.
	Relationships []*registryv1.Relationship
}

// WatchOption changes how a watch goes on.
type WatchOption func(*follower)

// GiveUpAfter ends a watch with its error when it could not be continued for so long; without it the
// watch tries for ever.
func GiveUpAfter(length time.Duration) WatchOption {
	return func(f *follower) { f.outage.giveUpAfter = length }
}

// defaultBookmarks is how often a server says how far a stream has come if it is not told.
const defaultBookmarks = 10 * time.Second

// Watch yields the changes that match, in order, each once, none skipped, until the loop is left or ctx
// ends. A revision is never split over two updates. When the connection breaks or the server restarts,
// the watch goes on where it was; see [Restarted] for a break within the snapshot. Without a start and
// without a snapshot it begins with the changes after the revision that is current when the loop begins.
//
//	for update, err := range client.Watch(ctx, &registryv1.WatchRequest{Snapshot: true}) {
//		if err != nil {
//			return err
//		}
//		for _, event := range update.Events {
//
// It ends after its first error: of ctx; OUT_OF_RANGE if the place to begin or to go on is compacted and
// reset_on_compaction is not set; FAILED_PRECONDITION if a token is of another history, because the
// registry was restored from a backup: begin again with a snapshot.
func (c *Client) Watch(
	ctx context.Context, request *registryv1.WatchRequest, opts ...WatchOption,
) iter.Seq2[Update, error] {
	return func(yield func(Update, error) bool) {
		following := &follower{
			client:  c,
			request: proto.CloneOf(request),
			outage:  outage{policy: c.retry},
			silence: 3 * max(request.GetBookmarkInterval().AsDuration(), defaultBookmarks),
		}
		for _, option := range opts {
			option(following)
		}
		following.run(ctx, yield)
	}
}

// follower is one watch: where it is, and how it goes on. Its request asks for what comes next.
type follower struct {
	client        *Client
	request       *registryv1.WatchRequest
	outage        outage
	silence       time.Duration
	fragments     []*registryv1.Event
	snapshotBegun bool
}

func (f *follower) run(ctx context.Context, yield func(Update, error) bool) {
	for {
		err := f.connection(ctx, yield)
		if err == nil {
			return // The loop was left.
		}
		if ctx.Err() == nil {
			if broken := (*Error)(nil); errors.As(err, &broken) && broken.isBroken() {
				err = f.outage.failed(ctx, err)
			}
		}
		if err != nil {
			yield(Update{}, err)
			return
		}
		if f.snapshotBegun {
			f.snapshotBegun = false
			if !yield(Update{Kind: Restarted}, nil) {
				return
			}
		}
	}
}

// connection hands over what comes over one connection; it answers why that ended, nil if the loop was
// left.
func (f *follower) connection(ctx context.Context, yield func(Update, error) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := f.begin(ctx); err != nil {
		return err
	}
	stream, err := f.client.Changes.Watch(ctx, f.request)
	if err != nil {
		return err
	}
	var silence *time.Timer
	for {
		message, err := stream.Recv()
		if err != nil {
			return endOf(ctx, err)
		}
		f.outage.over()
		if silence == nil {
			silence = time.AfterFunc(f.silence, func() { cancel(unavailable("the server fell silent")) })
			defer silence.Stop()
		}
		// The time that the loop's body takes is not the server's.
		silence.Stop()
		if update, whole := f.absorb(message); whole && !yield(update, nil) {
			return nil
		}
		if update, whole := f.snapshotEnded(message); whole && !yield(update, nil) {
			return nil
		}
		silence.Reset(f.silence)
	}
}

// endOf says why a stream ended.
func endOf(ctx context.Context, err error) error {
	if silent := (*Error)(nil); errors.As(context.Cause(ctx), &silent) {
		return silent
	}
	if errors.Is(err, io.EOF) {
		return unavailable("the server ended the stream")
	}
	return err
}

// begin drops what is half there. It makes "after now" a number, so that a break before the first token
// loses nothing.
func (f *follower) begin(ctx context.Context) error {
	f.fragments = nil
	if f.request.GetStart() != nil || f.request.GetSnapshot() {
		return nil
	}
	page, err := f.client.Entities.ListEntities(ctx, &registryv1.ListEntitiesRequest{Limit: 1})
	if err != nil {
		return err
	}
	f.request.Start = &registryv1.WatchRequest_StartRevision{StartRevision: page.GetRevision() + 1}
	return nil
}

// absorb takes a message in, and answers the update that is whole by it, if one is.
func (f *follower) absorb(message *registryv1.WatchResponse) (Update, bool) {
	if message.GetMark() == registryv1.WatchResponse_MARK_RESET {
		// From here on a break makes it begin with a snapshot: to continue leads here again.
		f.fragments, f.snapshotBegun = nil, false
		f.request.Start, f.request.Snapshot = nil, true
		return Update{Kind: Reset}, true
	}
	if f.request.GetSnapshot() {
		if len(message.GetEntities())+len(message.GetRelationships()) == 0 {
			return Update{}, false
		}
		f.snapshotBegun = true
		return Update{
			Kind:          Snapshot,
			Entities:      message.GetEntities(),
			Relationships: message.GetRelationships(),
		}, true
	}
	f.fragments = append(f.fragments, message.GetEvents()...)
	if message.GetMore() {
		return Update{}, false
	}
	events := f.fragments
	f.fragments = nil
	if len(events) == 0 {
		return f.arrived(Bookmark, message, nil), true
	}
	return f.arrived(Changes, message, events), true
}

// snapshotEnded is the update that the end of a snapshot is.
func (f *follower) snapshotEnded(message *registryv1.WatchResponse) (Update, bool) {
	if message.GetMark() != registryv1.WatchResponse_MARK_SNAPSHOT_END || !f.request.GetSnapshot() {
		return Update{}, false
	}
	f.snapshotBegun = false
	return f.arrived(SnapshotEnd, message, nil), true
}

// arrived is the update that a whole message is; the next stream continues after it.
func (f *follower) arrived(
	kind UpdateKind, message *registryv1.WatchResponse, events []*registryv1.Event,
) Update {
	f.request.Snapshot = false
	if token := message.GetResumeToken(); token != "" {
		f.request.Start = &registryv1.WatchRequest_ResumeToken{ResumeToken: token}
	}
	return Update{
		Kind: kind, Revision: message.GetRevision(), ResumeToken: message.GetResumeToken(), Events: events,
	}
}
