// Package registry is the Go client of the Universal Registry: a registry of entities and of the
// relationships between them, with graph questions, leases and a watch of every change.
//
// [Dial] makes a [Client], whose fields are the generated stubs of the registry's services, with
// messages from package registryv1. The client adds to them what every caller would have to write:
//
//   - calls that are UNAVAILABLE are repeated with backoff, and a write carries an idempotency key, so
//     that it happens once however often it is sent;
//   - calls without a deadline get one;
//   - errors are of type [*Error], with the registry's reason, its facts and the malformed fields;
//   - [Client.Watch] goes on over broken connections, without a gap or a duplicate;
//   - [Client.KeepLease] keeps a lease alive in the background;
//   - [WithCoalescing] joins calls that are made at the same time;
//   - [Pages] goes through the pages of any listing, and [Walk] joins those of a graph.
package registry
