package gateway

import (
	"unicode/utf8"

	"sluice/engine/order"
)

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string, exactly as encoding/json writes it without HTML escaping. Bytes that are not
// UTF-8 become U+FFFD.
func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = appendEscape(append(dst, s[start:i]...), c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, s[start:i]...), `\ufffd`...)
			start = i + size
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, s[start:i]...), `\u202`...)
			dst = append(dst, hexDigits[r&0xf])
			start = i + size
		}
		i += size
	}
	return append(append(dst, s[start:]...), '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}

// appendTime appends m as a quoted RFC 3339 time in UTC with milliseconds. m lies between 1970 and 9999.
func appendTime(dst []byte, m order.Milli) []byte {
	const dayMilli = 24 * 60 * 60 * 1000
	days, ms := int64(m)/dayMilli, int64(m)%dayMilli
	year, month, day := civil(days)
	dst = append(dst, '"')
	dst = append2(append2(dst, year/100), year%100)
	dst = append2(append(dst, '-'), month)
	dst = append2(append(dst, '-'), day)
	dst = append2(append(dst, 'T'), ms/3_600_000)
	dst = append2(append(dst, ':'), ms/60_000%60)
	dst = append2(append(dst, ':'), ms/1000%60)
	dst = append(dst, '.', byte('0'+ms/100%10), byte('0'+ms/10%10), byte('0'+ms%10))
	return append(dst, 'Z', '"')
}

func append2(dst []byte, n int64) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

// civil is the date of a day counted from 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms",
// civil_from_days, for days from 1970 on).
func civil(days int64) (year, month, day int64) {
	days += 719_468 // to 0000-03-01
	era := days / 146_097
	ofEra := days % 146_097
	yearOfEra := (ofEra - ofEra/1460 + ofEra/36_524 - ofEra/146_096) / 365
	ofYear := ofEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	shifted := (5*ofYear + 2) / 153 // 0 is March
	year, month, day = yearOfEra+era*400, shifted+3, ofYear-(153*shifted+2)/5+1
	if month > 12 {
		return year + 1, month - 12, day
	}
	return year, month, day
}
