package store

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
)

// Two releases use the same tables while a deployment is upgraded one process after the other, and after the upgrade was
// taken back. So a migration adds, and nothing else: tables, plain indexes, columns that may be NULL or have a default, so
// that the statements of the releases before it go on doing what they did. Programs start on tables that are newer than
// they know.
//
// A migration that takes something away, or changes what something means, ships one release after the last program that
// needed it, and says so in its first statement, for MySQL commits each on its own:
//
//	INSERT INTO fact (name, value) VALUES ('compatible_from', '4') ON CONFLICT (name) DO UPDATE SET value = excluded.value;
//	INSERT INTO fact (name, value) VALUES ('compatible_from', '4') ON DUPLICATE KEY UPDATE value = VALUES(value);
//
// From then on programs that know the tables up to a version below 4 do not start on this shard. A test holds all
// migrations to this (compatible_test.go); programs from before it start on no tables that are newer than theirs.

// compatibleFrom is the fact of a shard that names the oldest version a program must know to use its tables. Without it
// every program may that has this rule.
const compatibleFrom = "compatible_from"

// tooNew says why this program may not use the tables; empty: it may.
func (st *state) tooNew() string {
	if st.compatible <= st.known {
		return ""
	}
	return fmt.Sprintf("its tables are of version %d, and only programs that know version %d or later may use them; this one knows them "+
		"up to version %d: run the newer program", st.schema, st.compatible, st.known)
}

// takeCompatible takes the version out of the facts that were read: it is one of the tables, not of the deployment.
func (st *state) takeCompatible() (err error) {
	value, ok := st.facts[compatibleFrom]
	if !ok {
		return nil
	}
	delete(st.facts, compatibleFrom)
	if st.compatible, err = strconv.ParseInt(value, 10, 64); err != nil {
		return fmt.Errorf("%s is %q, which this program does not understand", compatibleFrom, value)
	}
	return nil
}

// stillCompatible looks at the tables again, now that nobody else changes them: a newer program may have done so since
// they were looked at.
func (s *Store) stillCompatible(ctx context.Context, sh *shard) error {
	st := &state{known: s.newestSchema()}
	if err := s.readState(ctx, sh, st); err != nil {
		return fmt.Errorf("read its tables again: %w", err)
	}
	if text := st.tooNew(); text != "" {
		return fmt.Errorf("another program has changed the tables meanwhile: %s", text)
	}
	return nil
}

// migrations are those of the dialect, as this program has them.
func (s *Store) migrations() fs.FS {
	if s.opts.migrations != nil {
		return s.opts.migrations
	}
	files, err := fs.Sub(migrations, "migrations/"+string(s.dialect.name))
	if err != nil {
		panic("BUG: migrations are not embedded: " + err.Error())
	}
	return files
}
