package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// ruleBegan is the version of the tables from which on migrations only add, or say that they do not.
var ruleBegan = map[Dialect]int64{SQLite: 2, MySQL: 1}

// A program of any release since the rule began works on the tables of this one, or they say that it does not.
func TestMigrationsOnlyAdd(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		for _, text := range notAdding(t, d, releaseOf(t, d)) {
			t.Error(text)
		}
	})
}

// raise is the statement that says from which version on programs may use the tables.
func raise(d Dialect, v int64) string {
	statement := fmt.Sprintf("INSERT INTO fact (name, value) VALUES ('compatible_from', '%d')", v)
	if d == MySQL {
		return statement + " ON DUPLICATE KEY UPDATE value = VALUES(value);\n"
	}
	return statement + " ON CONFLICT (name) DO UPDATE SET value = excluded.value;\n"
}

// The test above sees what a migration does to older programs, and lets pass what says so.
func TestMigrationsThatTakeAway(t *testing.T) {
	onDialects(t, func(t *testing.T, d Dialect) {
		next := newest(releaseOf(t, d)) + 1
		for sql, want := range map[string]string{ // what is said of a migration, or a part of it; empty: nothing
			"CREATE TABLE t (a BIGINT NOT NULL PRIMARY KEY); CREATE UNIQUE INDEX t_a ON t (a);":                       "",
			"ALTER TABLE orders ADD COLUMN channel BIGINT NOT NULL DEFAULT 0; ALTER TABLE part ADD COLUMN note BLOB;": "",
			"CREATE INDEX orders_by_shop ON orders (shop_id);":                                                        "",
			"ALTER TABLE orders ADD COLUMN channel BIGINT DEFAULT 1 CHECK (channel > 0);":                             "orders has a new",
			"ALTER TABLE orders DROP COLUMN freight;":                                                                 "orders had: freight",
			"ALTER TABLE orders RENAME COLUMN freight TO shipping;":                                                   "orders had: freight",
			"DROP TABLE parked;": "parked is gone",
			"DROP TABLE parked; CREATE TABLE parked (order_id BIGINT NOT NULL PRIMARY KEY);":       "parked had: ",
			"CREATE UNIQUE INDEX offer_by_sku ON offer (shop_id, sku);":                            "offer has a new",
			"UPDATE orders SET status = 'cancelled' WHERE status = 'canceled';":                    "UPDATE orders",
			raise(d, next) + "ALTER TABLE orders DROP COLUMN freight;":                             "",
			raise(d, next) + "UPDATE orders SET status = 'cancelled' WHERE status = 'canceled';":   "",
			raise(d, next-1) + "UPDATE orders SET status = 'cancelled' WHERE status = 'canceled';": "UPDATE orders",
			"ALTER TABLE orders DROP COLUMN freight; " + raise(d, next):                            "first statement",
			raise(d, next+1): "compatible_from goes from",
		} {
			release := planted(t, d, sql)
			got := notAdding(t, d, release)
			if said := strings.Join(got, "\n"); (want == "") != (said == "") || !strings.Contains(said, want) {
				t.Errorf("%s: said %q, want %q", sql, got, want)
			}
		}
	})
}

// planted is the release that has one more migration than this one.
func planted(t *testing.T, d Dialect, sql string) fstest.MapFS {
	t.Helper()
	release := releaseOf(t, d)
	release[fmt.Sprintf("%05d_planted.sql", newest(release)+1)] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + strings.ReplaceAll(sql, "; ", ";\n"))}
	return release
}

// releaseOf is the migrations of this program, for a test to add to.
func releaseOf(t *testing.T, d Dialect) fstest.MapFS {
	t.Helper()
	release := fstest.MapFS{}
	dir := "migrations/" + string(d)
	files, err := migrations.ReadDir(dir)
	noError(t, err)
	for _, f := range files {
		data, err := migrations.ReadFile(dir + "/" + f.Name())
		noError(t, err)
		release[f.Name()] = &fstest.MapFile{Data: data}
	}
	return release
}

func versionOf(file string) int64 {
	number, _, _ := strings.Cut(file, "_")
	n, _ := strconv.ParseInt(number, 10, 64)
	return n
}

func newest(release fstest.MapFS) (n int64) {
	for file := range release {
		n = max(n, versionOf(file))
	}
	return n
}

// upTo is the release that had the migrations up to version v.
func upTo(release fstest.MapFS, v int64) fstest.MapFS {
	older := maps.Clone(release)
	maps.DeleteFunc(older, func(file string, _ *fstest.MapFile) bool { return versionOf(file) > v })
	return older
}

// notAdding says what the migrations of a release do to programs of the releases before it that may go on.
func notAdding(t *testing.T, d Dialect, release fstest.MapFS) (said []string) {
	t.Helper()
	o := testOptions(t, d, 1)
	shapes := map[int64]shape{}
	var from, last int64
	for v := ruleBegan[d]; v <= newest(release); v++ {
		o.migrations = upTo(release, v)
		s := openStore(t, o)
		st := &state{}
		noError(t, s.readState(context.Background(), s.shards[0], st))
		if from = max(ruleBegan[d], st.compatible); from < last || st.compatible > v {
			said = append(said, fmt.Sprintf("version %d: %s goes from %d to %d", v, compatibleFrom, last, from))
		}
		last = from
		shapes[v] = shapeOf(t, d, s.shards[0].write)
		for older := from; older < v; older++ {
			said = append(said, shapes[older].lacks(shapes[v])...)
			said = append(said, shapes[older].refuses(s.shards[0].write)...)
		}
		noError(t, s.Close())
	}
	for file, f := range release {
		if v := versionOf(file); v > ruleBegan[d] {
			said = append(said, unargued(f.Data, v)...)
		}
	}
	slices.Sort(said)
	return slices.Compact(said)
}

// adds are the statements that take nothing away, as far as their text says; shapes say the rest. Rows of counter are
// looked up by their names.
var adds = regexp.MustCompile(`(?is)^(CREATE (TABLE|(UNIQUE )?INDEX) |ALTER TABLE \S+ ADD COLUMN |INSERT INTO counter |SET @|(PREPARE|EXECUTE|DEALLOCATE PREPARE) )`)

// raises is the statement with which a migration says that it takes something away.
var raises = regexp.MustCompile(`(?is)^INSERT INTO fact \(name, value\) VALUES \('compatible_from', '(\d+)'\)`)

// unargued are the statements of migration v that may change what older programs read, and do not say so first.
func unargued(data []byte, v int64) (said []string) {
	var text strings.Builder
	for line := range strings.Lines(string(data)) {
		if code, _, _ := strings.Cut(line, "--"); strings.TrimSpace(code) != "" {
			text.WriteString(code)
		}
	}
	own := false
	for i, statement := range strings.Split(text.String(), ";") {
		statement = strings.TrimSpace(statement)
		raise := raises.FindStringSubmatch(statement)
		switch {
		case statement == "":
		case raise != nil && i > 0:
			said = append(said, fmt.Sprintf("migration %d: %s must be its first statement", v, compatibleFrom))
			own = own || raise[1] == fmt.Sprint(v)
		case raise != nil:
			own = raise[1] == fmt.Sprint(v)
		case !own && !adds.MatchString(statement):
			said = append(said, fmt.Sprintf("migration %d: %s", v, statement))
		}
	}
	if own {
		said = slices.DeleteFunc(said, func(s string) bool { return !strings.Contains(s, "first statement") })
	}
	return said
}

// shape is what a release's statements rely on: per table the columns and constraints, a line each as the database
// shows them, and its indexes.
type shape map[string]*table

type table struct {
	dialect Dialect
	columns []string // names
	lines   map[string]bool
}

func shapeOf(t *testing.T, d Dialect, db *sql.DB) shape {
	t.Helper()
	query := "SELECT type, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name NOT LIKE 'sqlite_%'"
	if d == MySQL {
		query = "SELECT 'table', table_name, '' FROM information_schema.tables WHERE table_schema = DATABASE()"
	}
	sh := shape{}
	rows, err := db.Query(query)
	noError(t, each(rows, err, func(r *sql.Rows) error {
		var kind, name, text string
		err := r.Scan(&kind, &name, &text)
		if name == "goose_db_version" || err != nil {
			return err
		}
		if sh[name] == nil {
			sh[name] = &table{dialect: d, lines: map[string]bool{}}
		}
		if kind == "table" {
			sh[name].read(text)
		} else {
			sh[name].lines[tidy(text)] = true
		}
		return nil
	}))
	for name, x := range sh {
		if d == MySQL {
			var text string
			noError(t, db.QueryRow("SHOW CREATE TABLE "+name).Scan(new(string), &text))
			x.read(text)
		}
		rows, err := db.Query("SELECT * FROM " + name + " LIMIT 0")
		noError(t, err)
		x.columns, err = rows.Columns()
		noError(t, err)
		noError(t, rows.Close())
	}
	return sh
}

// read takes apart what stands between the outer brackets of CREATE TABLE, and what stands behind them.
func (x *table) read(text string) {
	var code strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "--")
		code.WriteString(line + " ")
	}
	text = code.String()
	from, to := strings.Index(text, "("), strings.LastIndex(text, ")")
	x.lines["behind: "+tidy(text[to+1:])] = true
	depth, start := 0, from+1
	for i := from + 1; i <= to; i++ {
		switch c := text[i]; {
		case c == '(':
			depth++
		case c == ',' && depth == 0, c == ')' && i == to:
			x.lines[tidy(text[start:i])] = true
			start = i + 1
		case c == ')':
			depth--
		}
	}
}

func tidy(s string) string { return strings.Join(strings.Fields(strings.ReplaceAll(s, "`", "")), " ") }

// refusing are words of a new line that older programs' rows may offend.
var refusing = regexp.MustCompile(`\b(UNIQUE|PRIMARY|CHECK|REFERENCES|FOREIGN|CONSTRAINT|GENERATED|TRIGGER)\b`)

// lacks says what older statements relied on and the newer tables do not have, or have beyond it.
func (sh shape) lacks(newer shape) (said []string) {
	for name, x := range sh {
		y := newer[name]
		if y == nil {
			said = append(said, "table "+name+" is gone")
			continue
		}
		for line := range x.lines {
			if !y.lines[line] {
				said = append(said, fmt.Sprintf("table %s had: %s", name, line))
			}
		}
		for line := range y.lines {
			missing := strings.Contains(line, "NOT NULL") && !strings.Contains(line, "DEFAULT")
			if !x.lines[line] && (missing || refusing.MatchString(line)) {
				said = append(said, fmt.Sprintf("table %s has a new: %s", name, line))
			}
		}
	}
	return said
}

// refuses says which rows of older programs the newer tables do not take, or give back otherwise.
func (sh shape) refuses(db *sql.DB) (said []string) {
	for name, x := range sh {
		tx, err := db.Begin()
		if err == nil {
			err = x.insert(tx, name)
			_ = tx.Rollback()
		}
		if err != nil {
			said = append(said, fmt.Sprintf("table %s: %v", name, err))
		}
	}
	return said
}

// insert writes a row of ones, which every type takes, and reads it again.
func (x *table) insert(tx *sql.Tx, name string) error {
	if _, err := tx.Exec("DELETE FROM " + name); err != nil {
		return err
	}
	ones := strings.TrimSuffix(strings.Repeat("'1', ", len(x.columns)), ", ")
	columns := strings.Join(x.columns, ", ")
	if _, err := tx.Exec("INSERT INTO " + name + " (" + columns + ") VALUES (" + ones + ")"); err != nil {
		return err
	}
	got := make([]string, len(x.columns))
	into := make([]any, len(got))
	for i := range got {
		into[i] = &got[i]
	}
	if err := tx.QueryRow("SELECT " + columns + " FROM " + name).Scan(into...); err != nil {
		return err
	}
	if slices.ContainsFunc(got, func(s string) bool { return s != "1" }) {
		return fmt.Errorf("ones are read as %q", got)
	}
	return nil
}
