# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
title='xsltproc: a document of 100,000 elements'
needs=xsltproc packages=xsltproc

prepare() {
	"$PYTHON" - "$(scaled 100000)" >in.xml <<'PY'
import random, sys
rng = random.Random(24)
print("<shop>")
for n in range(int(sys.argv[1])):
    print(f'<item id="{n}" group="{rng.randrange(200)}"><name>{rng.getrandbits(40):x}</name><price>{rng.randrange(9999)}</price></item>')
print("</shop>")
PY
	cat >load.xsl <<'XSL'
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
<xsl:output method="xml" indent="yes"/>
<xsl:key name="g" match="item" use="@group"/>
<xsl:template match="/shop"><out>
<xsl:for-each select="item[generate-id() = generate-id(key('g', @group)[1])]"><xsl:sort select="@group" data-type="number"/>
<group n="{@group}" count="{count(key('g', @group))}" sum="{sum(key('g', @group)/price)}">
<xsl:for-each select="key('g', @group)"><xsl:sort select="name"/><i><xsl:value-of select="concat(name, '-', price)"/></i></xsl:for-each>
</group></xsl:for-each></out></xsl:template>
</xsl:stylesheet>
XSL
}

work() { tenant xsltproc -o out.xml "$load/load.xsl" "$load/in.xml"; }
