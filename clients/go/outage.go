package registry

import (
	"context"
	"math"
	"math/rand/v2"
	"time"
)

// outage counts the failures of a stream since it last worked.
type outage struct {
	policy      RetryPolicy
	giveUpAfter time.Duration
	failures    int
	began       time.Time
}

// over says that the stream works again.
func (o *outage) over() { o.failures = 0 }

// failed counts a failure and waits before the next attempt. It answers the error itself if it is time
// to give up, and the context's if that ended.
func (o *outage) failed(ctx context.Context, err error) error {
	now := time.Now()
	if o.failures == 0 {
		o.began = now
	}
	o.failures++
	delay := o.policy.delay(o.failures)
	if o.giveUpAfter > 0 && now.Add(delay).Sub(o.began) >= o.giveUpAfter {
		return err
	}
	return sleep(ctx, delay)
}

// delay is how long to wait after so many failures in a row: backoff with full jitter.
func (p RetryPolicy) delay(failures int) time.Duration {
	// Beyond 60 every backoff has reached its maximum; the bound keeps the power finite.
	grown := math.Pow(p.Multiplier, float64(min(failures-1, 60))) * float64(p.InitialBackoff)
	ceiling := max(min(grown, float64(p.MaxBackoff)), 1)
	return time.Duration(rand.Int64N(int64(ceiling) + 1))
}

func sleep(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
