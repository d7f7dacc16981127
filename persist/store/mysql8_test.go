package store

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// The words that MySQL 8.0 to 9 reserves. Those that our statements use as the keywords they are stand in keywords.
var reserved = strings.Fields(`accessible add all alter analyze and as asc asensitive before between bigint binary blob both by
	call cascade case change char character check collate column condition constraint continue convert create cross cube
	cume_dist current_date current_time current_timestamp current_user cursor database databases day_hour day_microsecond
	day_minute day_second dec decimal declare default delayed delete dense_rank desc describe deterministic distinct
	distinctrow div double drop dual each else elseif empty enclosed escaped except exists exit explain false fetch
	first_value float float4 float8 for force foreign from fulltext function generated get grant group grouping groups
	having high_priority hour_microsecond hour_minute hour_second if ignore in index infile inner inout insensitive insert
	int int1 int2 int3 int4 int8 integer intersect interval into io_after_gtids io_before_gtids is iterate join json_table
	key keys kill lag last_value lateral lead leading leave left like limit linear lines load localtime localtimestamp lock
	long longblob longtext loop low_priority manual master_bind master_ssl_verify_server_cert match maxvalue mediumblob
	mediumint mediumtext middleint minute_microsecond minute_second mod modifies natural not no_write_to_binlog nth_value
	ntile null numeric of on optimize optimizer_costs option optionally or order out outer outfile over parallel partition
	percent_rank precision primary procedure purge qualify range rank read reads read_write real recursive references
	regexp release rename repeat replace require resignal restrict return revoke right rlike row rows row_number schema
	schemas second_microsecond select sensitive separator set show signal smallint spatial specific sql sqlexception
	sqlstate sqlwarning sql_big_result sql_calc_found_rows sql_small_result ssl starting stored straight_join system table
	tablesample terminated then tinyblob tinyint tinytext to trailing trigger true undo union unique unlock unsigned update
	usage use using utc_date utc_time utc_timestamp values varbinary varchar varcharacter varying virtual when where while
	window with write xor year_month zerofill`)

var keywords = strings.Fields(`add alter and as asc between bigint blob by case change char check collate column constraint create default delete desc drop
	each else exists false for from group having if in index insert int into is join key left limit mediumblob not null on or
	order primary read rename select set show signal table then to trigger true unique update values varchar when where with`)

// What both databases have and mean the same by; types are written like functions.
var functions = strings.Fields(`cast char coalesce concat count database get_lock greatest if max min now release_lock sha1 sum
	unix_timestamp values varchar`)

// What MariaDB alone takes, or what we never use: IGNORE and REPLACE hide what a guard says.
var foreign = []*regexp.Regexp{
	regexp.MustCompile(`\breturning\b`), regexp.MustCompile(`\b(insert|update) (low_priority |delayed )?ignore\b`), regexp.MustCompile(`^replace\b`),
	regexp.MustCompile(`\b(nextval|lastval|setval|sequence)\b`), regexp.MustCompile(`\bcreate or replace\b`), regexp.MustCompile(`/\*m?!`),
	regexp.MustCompile(`\b(column|index|constraint|key) if (not )?exists\b`), regexp.MustCompile(`\bset statement\b`),
	regexp.MustCompile(`\bfor update wait\b`), regexp.MustCompile(`\bvalue\(`), regexp.MustCompile(`\bfor system_time\b`),
	regexp.MustCompile(`\b(minus|intersect|except)\b`), regexp.MustCompile(`\boffset \S+ rows\b`), regexp.MustCompile(`\bjson_(value|query)\b`),
	regexp.MustCompile(`\|\|`), regexp.MustCompile(`"`),
}

var word = regexp.MustCompile("`[^`]*`" + `|@*[a-z_][a-z0-9_$]*\(?`)

// notForMySQL8 says why a statement, without its values, may not be one for MySQL 8; empty: it is.
func notForMySQL8(bare string) string {
	text := strings.ToLower(bare)
	for _, pattern := range foreign {
		if found := pattern.FindString(text); found != "" {
			return fmt.Sprintf("MySQL 8 does not take %q, or we never use it: %s", found, bare)
		}
	}
	for _, w := range word.FindAllString(text, -1) {
		name, calls := strings.CutSuffix(w, "(")
		switch {
		case calls && !slices.Contains(functions, name):
			return fmt.Sprintf("%s() is not known to be a function of MySQL 8 (functions): %s", name, bare)
		case !calls && slices.Contains(reserved, name) && !slices.Contains(keywords, name):
			return fmt.Sprintf("%s is a reserved word of MySQL 8, or a keyword that nothing used so far (keywords): %s", name, bare)
		}
	}
	return ""
}

// Each rule has its offence.
func TestNotForMySQL8(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{
		"INSERT INTO t (a) VALUES (1) RETURNING a", "INSERT " + "IGNORE INTO t VALUES (1)", "REPLACE INTO t VALUES (1)",
		"SELECT NEXTVAL(s)", "CREATE OR REPLACE TABLE t (a INT)", "ALTER TABLE t ADD COLUMN IF NOT EXISTS a INT",
		"SET STATEMENT max_statement_time=1 FOR SELECT 1", "SELECT 1 FROM t FOR UPDATE WAIT 5", "SELECT rank FROM t",
		"SELECT a AS groups FROM t", "SELECT lead, lag FROM t", "SELECT a FROM system", "SELECT JSON_VALUE(a, '$')",
		"INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = VALUE(a)", "SELECT 'a' || 'b'", `SELECT "a"`, "SELECT UUID_SHORT()",
		"SELECT a FROM t EXCEPT SELECT 1", "SELECT 1 /*M! 1 */",
	} {
		if notForMySQL8(withoutValues(statement)) == "" {
			t.Errorf("MySQL 8 would not take %s", statement)
		}
	}
	for _, statement := range []string{
		"INSERT INTO orders (a, b) VALUES (1,'it''s a rank \\' x'),(X'00ff',_binary'groups') ON DUPLICATE KEY UPDATE a = VALUES(a)",
		"SELECT CAST(UNIX_TIMESTAMP(NOW(3))*1000 AS SIGNED)", "SELECT `rank` FROM t WHERE a IN (?,?) FOR UPDATE",
	} {
		if why := notForMySQL8(withoutValues(statement)); why != "" {
			t.Error(why)
		}
	}
}

// The CHECKs of the tables are in the form that both databases hold to, and the errors of both are known.
func TestGuardErrorsOfBoth(t *testing.T) {
	t.Parallel()
	for _, number := range []uint16{3819, 4025} { // MySQL, MariaDB
		if !guardRefused(mysqlError(number)) || !rowRefused(mysqlError(number)) || rolledBack(mysqlError(number)) {
			t.Errorf("error %d is a CHECK that refused", number)
		}
	}
	for _, number := range []uint16{1213, 1205} {
		if !rolledBack(mysqlError(number)) || guardRefused(mysqlError(number)) || rowRefused(mysqlError(number)) {
			t.Errorf("error %d says to run again", number)
		}
	}
}

func mysqlError(number uint16) error {
	return fmt.Errorf("somewhere: %w", &mysql.MySQLError{Number: number, SQLState: [5]byte([]byte("HY000"))})
}
