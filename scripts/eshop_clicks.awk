# Clicks of the e-shop clothing 2008, with names for its codes: its file on standard input, CSV for `midstream demo` out.
BEGIN {
    FS = ";"; OFS = ","
    split("trousers,skirt,blouse,sale", category, ",")
    split("beige,black,blue,brown,burgundy,gray,green,navy,many-coloured,olive,pink,red,violet,white", colour, ",")
    print "session_id", "item_id", "time", "category", "colour", "price"
}
NR > 1 {
    day = sprintf("%04d-%02d-%02d", $1, $2, $3)
    print $6, $8, day, ($7 in category ? category[$7] : "other"), ($9 in colour ? colour[$9] : "other"), $12
}
