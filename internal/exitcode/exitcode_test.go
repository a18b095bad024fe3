package exitcode

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestOf(t *testing.T) {
	base := errors.New("base")
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, Done},
		{base, Internal},
		{Wrap(NoInput, base), NoInput},
		{fmt.Errorf("outside: %w", Wrap(NoInput, base)), NoInput},
		{Wrap(SomeFailed, Wrap(NoInput, base)), SomeFailed},
		{Errorf(Usage, "reading: %w", fs.ErrNotExist), Usage},
		{fmt.Errorf("step 3: %w", context.Canceled), Interrupted},
		{Wrap(NoInput, fmt.Errorf("scan: %w", context.Canceled)), Interrupted},
		{context.DeadlineExceeded, Internal},
	} {
		if got := Of(tt.err); got != tt.want {
			t.Errorf("Of(%v) = %d, want %d", tt.err, got, tt.want)
		}
	}
	if Wrap(Usage, nil) != nil {
		t.Error("Wrap makes an error of nil")
	}
	if err := Errorf(Usage, "reading: %w", fs.ErrNotExist); !errors.Is(err, fs.ErrNotExist) || err.Error() != "reading: file does not exist" {
		t.Errorf("Errorf: %v", err)
	}
}
