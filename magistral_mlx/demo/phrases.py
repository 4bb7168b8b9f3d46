"""What the nano model can say and be asked, in eight languages of the model card."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrases:
    """Templates of one language. {a}, {b}, {c} and {n} are numbers of the question, {r} the result.

    ask_* are questions; *_open starts the working of one operation, `conclude` ends it.
    """

    places: tuple[str, str, str, str]
    carry: str
    borrow: str
    ask_add: tuple[str, ...]
    ask_subtract: tuple[str, ...]
    ask_multiply: tuple[str, ...]
    ask_compare: tuple[str, ...]
    ask_shop: tuple[str, ...]
    ask_boxes: tuple[str, ...]
    things: tuple[str, ...]
    add_open: str
    subtract_open: str
    multiply_open: str
    compare_open: str
    digits: str
    shop_open: str
    boxes_open: str
    conclude: str
    larger: str
    equal: str
    answer: str
    answer_larger: str
    answer_equal: str
    answer_left: str
    answer_total: str
    greetings: tuple[str, ...]
    greeting_thought: str
    introduction: str


PHRASES: dict[str, Phrases] = {
    "en": Phrases(
        places=("ones", "tens", "hundreds", "thousands"),
        carry="carry",
        borrow="borrow",
        ask_add=(
            "What is {a} + {b}?",
            "Calculate {a} + {b}.",
            "Add {a} and {b}.",
            "How much is {a} plus {b}?",
            "{a} + {b}",
        ),
        ask_subtract=(
            "What is {a} - {b}?",
            "Calculate {a} - {b}.",
            "Subtract {b} from {a}.",
            "How much is {a} minus {b}?",
            "{a} - {b}",
        ),
        ask_multiply=(
            "What is {a} × {b}?",
            "Calculate {a} × {b}.",
            "Multiply {a} by {b}.",
            "How much is {a} times {b}?",
            "{a} × {b}",
        ),
        ask_compare=(
            "Which number is larger, {a} or {b}?",
            "What is greater: {a} or {b}?",
            "Compare {a} and {b}.",
        ),
        ask_shop=(
            "A shop has {a} {things}. It gets {b} more and sells {c}. How many {things} are left?",
            "I have {a} {things}, I buy {b} more and give away {c}. How many do I have now?",
        ),
        ask_boxes=(
            "There are {n} boxes with {a} {things} each and {b} more {things}. "
            "How many {things} are there in all?",
        ),
        things=("apples", "books", "pens"),
        add_open="I add {a} and {b} digit by digit, from the right.",
        subtract_open="I subtract {b} from {a} digit by digit, from the right.",
        multiply_open="I multiply {a} by {b} digit by digit, from the right.",
        compare_open="I compare {a} and {b}: first how long they are, then their digits, "
        "one by one, from the left.",
        digits="digits",
        shop_open="First I find the total, then what is left.",
        boxes_open="First I count what is in the boxes, then I add the rest.",
        conclude="So {a} {op} {b} = {r}.",
        larger="So {r} is larger.",
        equal="So they are equal.",
        answer="The result of {a} {op} {b} is **{r}**.",
        answer_larger="The larger number is **{r}**.",
        answer_equal="Both numbers are equal: **{r}**.",
        answer_left="There are **{r}** {things} left.",
        answer_total="There are **{r}** {things} in all.",
        greetings=("Hello", "Hello!", "Hi", "Who are you?", "What can you do?"),
        greeting_thought="The user greets me or asks who I am. There is nothing to calculate, "
        "so I say in a few words who I am and what I can do, and I invite a question that I can "
        "answer.",
        introduction="Hello! I am a very small model that shows its reasoning. I can add, "
        "subtract, multiply by one digit and compare numbers. Ask me: *What is 47 + 85?*",
    ),
    "fr": Phrases(
        places=("unités", "dizaines", "centaines", "milliers"),
        carry="retenue",
        borrow="emprunt",
        ask_add=(
            "Combien font {a} + {b} ?",
            "Calcule {a} + {b}.",
            "Quelle est la somme de {a} et {b} ?",
            "Combien font {a} plus {b} ?",
        ),
        ask_subtract=(
            "Combien font {a} - {b} ?",
            "Calcule {a} - {b}.",
            "Quelle est la différence entre {a} et {b} ?",
            "Combien font {a} moins {b} ?",
        ),
        ask_multiply=(
            "Combien font {a} × {b} ?",
            "Calcule {a} × {b}.",
            "Quel est le produit de {a} et {b} ?",
            "Combien font {a} fois {b} ?",
        ),
        ask_compare=(
            "Quel nombre est le plus grand, {a} ou {b} ?",
            "Compare {a} et {b}.",
        ),
        ask_shop=(
            "Un magasin a {a} {things}. Il en reçoit {b} et en vend {c}. Combien en reste-t-il ?",
            "J'ai {a} {things}, j'en achète {b} et j'en donne {c}. Combien m'en reste-t-il ?",
        ),
        ask_boxes=(
            "Il y a {n} boîtes de {a} {things} chacune et encore {b} {things}. "
            "Combien y a-t-il de {things} en tout ?",
        ),
        things=("pommes", "livres", "stylos"),
        add_open="J'additionne {a} et {b} chiffre par chiffre, depuis la droite.",
        subtract_open="Je soustrais {b} de {a} chiffre par chiffre, depuis la droite.",
        multiply_open="Je multiplie {a} par {b} chiffre par chiffre, depuis la droite.",
        compare_open="Je compare {a} et {b}, d'abord leur longueur, puis leurs chiffres depuis "
        "la gauche.",
        digits="chiffres",
        shop_open="Je cherche d'abord le total, puis ce qui reste.",
        boxes_open="Je compte d'abord le contenu des boîtes, puis j'ajoute le reste.",
        conclude="Donc {a} {op} {b} = {r}.",
        larger="Donc {r} est le plus grand.",
        equal="Donc ils sont égaux.",
        answer="Le résultat de {a} {op} {b} est **{r}**.",
        answer_larger="Le plus grand nombre est **{r}**.",
        answer_equal="Les deux nombres sont égaux : **{r}**.",
        answer_left="Il reste **{r}** {things}.",
        answer_total="Il y a **{r}** {things} en tout.",
        greetings=("Bonjour", "Bonjour !", "Salut", "Qui es-tu ?", "Que sais-tu faire ?"),
        greeting_thought="On me salue ou on me demande qui je suis. Il n'y a rien à calculer, "
        "alors je dis en quelques mots qui je suis et ce que je sais faire, et j'attends une "
        "question.",
        introduction="Bonjour ! Je suis un tout petit modèle qui montre son raisonnement. Je sais "
        "additionner, soustraire, multiplier par un chiffre et comparer des nombres. Demande-moi : "
        "*Combien font 47 + 85 ?*",
    ),
    "de": Phrases(
        places=("Einer", "Zehner", "Hunderter", "Tausender"),
        carry="Übertrag",
        borrow="geborgt",
        ask_add=(
            "Was ist {a} + {b}?",
            "Berechne {a} + {b}.",
            "Wie viel ist {a} plus {b}?",
            "Addiere {a} und {b}.",
        ),
        ask_subtract=(
            "Was ist {a} - {b}?",
            "Berechne {a} - {b}.",
            "Wie viel ist {a} minus {b}?",
            "Ziehe {b} von {a} ab.",
        ),
        ask_multiply=(
            "Was ist {a} × {b}?",
            "Berechne {a} × {b}.",
            "Wie viel ist {a} mal {b}?",
            "Multipliziere {a} mit {b}.",
        ),
        ask_compare=(
            "Welche Zahl ist größer, {a} oder {b}?",
            "Vergleiche {a} und {b}.",
        ),
        ask_shop=(
            "Ein Laden hat {a} {things}. Er bekommt {b} dazu und verkauft {c}. "
            "Wie viele {things} bleiben?",
            "Ich habe {a} {things}, kaufe {b} dazu und gebe {c} weg. Wie viele habe ich jetzt?",
        ),
        ask_boxes=(
            "Es gibt {n} Kisten mit je {a} {things} und noch {b} {things}. "
            "Wie viele {things} sind es insgesamt?",
        ),
        things=("Äpfel", "Bücher", "Stifte"),
        add_open="Ich addiere {a} und {b} Stelle für Stelle, von rechts.",
        subtract_open="Ich ziehe {b} von {a} ab, Stelle für Stelle, von rechts.",
        multiply_open="Ich multipliziere {a} mit {b} Stelle für Stelle, von rechts.",
        compare_open="Ich vergleiche {a} und {b}: zuerst die Länge, dann die Stellen, eine nach "
        "der anderen, von links.",
        digits="Stellen",
        shop_open="Zuerst suche ich die Summe, dann den Rest.",
        boxes_open="Zuerst zähle ich den Inhalt der Kisten, dann addiere ich den Rest.",
        conclude="Also {a} {op} {b} = {r}.",
        larger="Also ist {r} größer.",
        equal="Also sind sie gleich.",
        answer="Das Ergebnis von {a} {op} {b} ist **{r}**.",
        answer_larger="Die größere Zahl ist **{r}**.",
        answer_equal="Beide Zahlen sind gleich: **{r}**.",
        answer_left="Es bleiben **{r}** {things}.",
        answer_total="Es sind insgesamt **{r}** {things}.",
        greetings=("Hallo", "Hallo!", "Guten Tag", "Wer bist du?", "Was kannst du?"),
        greeting_thought="Jemand grüßt mich oder fragt, wer ich bin. Es gibt nichts zu rechnen, "
        "also sage ich in wenigen Worten, wer ich bin und was ich kann, und warte auf eine Frage.",
        introduction="Hallo! Ich bin ein sehr kleines Modell, das seine Gedanken zeigt. Ich kann "
        "addieren, subtrahieren, mit einer Ziffer multiplizieren und Zahlen vergleichen. "
        "Frage mich: *Was ist 47 + 85?*",
    ),
    "es": Phrases(
        places=("unidades", "decenas", "centenas", "millares"),
        carry="llevo",
        borrow="presto",
        ask_add=(
            "¿Cuánto es {a} + {b}?",
            "Calcula {a} + {b}.",
            "Suma {a} y {b}.",
            "¿Cuánto es {a} más {b}?",
        ),
        ask_subtract=(
            "¿Cuánto es {a} - {b}?",
            "Calcula {a} - {b}.",
            "Resta {b} de {a}.",
            "¿Cuánto es {a} menos {b}?",
        ),
        ask_multiply=(
            "¿Cuánto es {a} × {b}?",
            "Calcula {a} × {b}.",
            "Multiplica {a} por {b}.",
            "¿Cuánto es {a} por {b}?",
        ),
        ask_compare=(
            "¿Qué número es mayor, {a} o {b}?",
            "Compara {a} y {b}.",
        ),
        ask_shop=(
            "Una tienda tiene {a} {things}. Recibe {b} más y vende {c}. ¿Cuántos {things} quedan?",
            "Tengo {a} {things}, compro {b} más y regalo {c}. ¿Cuántos tengo ahora?",
        ),
        ask_boxes=(
            "Hay {n} cajas con {a} {things} cada una y {b} {things} más. "
            "¿Cuántos {things} hay en total?",
        ),
        things=("libros", "lápices", "tomates"),
        add_open="Sumo {a} y {b} cifra por cifra, desde la derecha.",
        subtract_open="Resto {b} de {a} cifra por cifra, desde la derecha.",
        multiply_open="Multiplico {a} por {b} cifra por cifra, desde la derecha.",
        compare_open="Comparo {a} y {b}: primero su longitud y luego sus cifras, una por una, "
        "desde la izquierda.",
        digits="cifras",
        shop_open="Primero busco el total y luego lo que queda.",
        boxes_open="Primero cuento lo que hay en las cajas y luego sumo el resto.",
        conclude="Entonces {a} {op} {b} = {r}.",
        larger="Entonces {r} es mayor.",
        equal="Entonces son iguales.",
        answer="El resultado de {a} {op} {b} es **{r}**.",
        answer_larger="El número mayor es **{r}**.",
        answer_equal="Los dos números son iguales: **{r}**.",
        answer_left="Quedan **{r}** {things}.",
        answer_total="Hay **{r}** {things} en total.",
        greetings=("Hola", "¡Hola!", "Buenos días", "¿Quién eres?", "¿Qué sabes hacer?"),
        greeting_thought="Me saludan o me preguntan quién soy. No hay nada que calcular, así que "
        "digo en pocas palabras quién soy y qué sé hacer, y espero una pregunta que pueda "
        "resolver.",
        introduction="¡Hola! Soy un modelo muy pequeño que muestra su razonamiento. Sé sumar, "
        "restar, multiplicar por una cifra y comparar números. Pregúntame: *¿Cuánto es 47 + 85?*",
    ),
    "zh": Phrases(
        places=("个位", "十位", "百位", "千位"),
        carry="进位",
        borrow="借位",
        ask_add=("{a} + {b} 等于多少？", "计算 {a} + {b}。", "{a} 加 {b} 是多少？"),
        ask_subtract=("{a} - {b} 等于多少？", "计算 {a} - {b}。", "{a} 减 {b} 是多少？"),
        ask_multiply=("{a} × {b} 等于多少？", "计算 {a} × {b}。", "{a} 乘以 {b} 是多少？"),
        ask_compare=("{a} 和 {b} 哪个数更大？", "比较 {a} 和 {b}。"),
        ask_shop=(
            "商店有 {a} {things}，又进了 {b}，卖出 {c}。还剩多少？",
            "我有 {a} {things}，又买了 {b}，送出 {c}。现在有多少？",
        ),
        ask_boxes=("有 {n} 个箱子，每箱 {a} {things}，另外还有 {b} {things}。一共有多少？",),
        things=("个苹果", "本书", "支笔"),
        add_open="我把 {a} 和 {b} 从右到左逐位相加。",
        subtract_open="我从 {a} 中从右到左逐位减去 {b}。",
        multiply_open="我把 {a} 从右到左逐位乘以 {b}。",
        compare_open="我比较 {a} 和 {b}，先看长度，再从左到右看每一位。",
        digits="位数",
        shop_open="先求总数，再求剩下的。",
        boxes_open="先算箱子里的，再加上其余的。",
        conclude="所以 {a} {op} {b} = {r}。",
        larger="所以 {r} 更大。",
        equal="所以两个数相等。",
        answer="{a} {op} {b} 的结果是 **{r}**。",
        answer_larger="更大的数是 **{r}**。",
        answer_equal="两个数相等：**{r}**。",
        answer_left="还剩 **{r}** {things}。",
        answer_total="一共有 **{r}** {things}。",
        greetings=("你好", "你好！", "您好", "你是谁？", "你会做什么？"),
        greeting_thought="用户在打招呼，或者问我是谁。没有什么要计算的，"
        "所以我用几句话说明我是谁、我会做什么，然后等用户提问。",
        introduction="你好！我是一个很小的模型，会展示自己的思考过程。"
        "我会加法、减法、乘以一位数，还会比较大小。请问我：*47 + 85 等于多少？*",
    ),
    "ar": Phrases(
        places=("الآحاد", "العشرات", "المئات", "الآلاف"),
        carry="نحمل",
        borrow="نستلف",
        ask_add=("كم يساوي {a} + {b}؟", "احسب {a} + {b}.", "ما مجموع {a} و {b}؟"),
        ask_subtract=("كم يساوي {a} - {b}؟", "احسب {a} - {b}.", "اطرح {b} من {a}."),
        ask_multiply=("كم يساوي {a} × {b}؟", "احسب {a} × {b}.", "اضرب {a} في {b}."),
        ask_compare=("أي عدد أكبر، {a} أم {b}؟", "قارن بين {a} و {b}."),
        ask_shop=(
            "في متجر {a} {things}. وصل إليه {b} وباع {c}. كم بقي؟",
            "عندي {a} {things}، اشتريت {b} وأعطيت {c}. كم عندي الآن؟",
        ),
        ask_boxes=("هناك {n} صناديق في كل منها {a} {things} ومعها {b} {things}. كم المجموع؟",),
        things=("تفاحة", "كتاب", "قلم"),
        add_open="أجمع {a} و {b} رقما رقما من اليمين.",
        subtract_open="أطرح {b} من {a} رقما رقما من اليمين.",
        multiply_open="أضرب {a} في {b} رقما رقما من اليمين.",
        compare_open="أقارن بين {a} و {b}، أولا عدد الأرقام، ثم الأرقام رقما رقما من اليسار.",
        digits="الأرقام",
        shop_open="أولا أجد المجموع، ثم ما بقي.",
        boxes_open="أولا أحسب ما في الصناديق، ثم أجمع الباقي.",
        conclude="إذن {a} {op} {b} = {r}.",
        larger="إذن {r} أكبر.",
        equal="إذن هما متساويان.",
        answer="نتيجة {a} {op} {b} هي **{r}**.",
        answer_larger="العدد الأكبر هو **{r}**.",
        answer_equal="العددان متساويان: **{r}**.",
        answer_left="بقي **{r}** {things}.",
        answer_total="المجموع **{r}** {things}.",
        greetings=("مرحبا", "مرحبا!", "السلام عليكم", "من أنت؟", "ماذا تستطيع أن تفعل؟"),
        greeting_thought="المستخدم يحييني أو يسأل من أنا. لا شيء للحساب هنا، "
        "لذلك أقول بكلمات قليلة من أنا وماذا أستطيع أن أفعل، ثم أنتظر سؤالا أستطيع أن أجيب عنه.",
        introduction="مرحبا! أنا نموذج صغير جدا يعرض تفكيره. أستطيع الجمع والطرح والضرب في رقم "
        "واحد ومقارنة الأعداد. اسألني: *كم يساوي 47 + 85؟*",
    ),
    "hi": Phrases(
        places=("इकाई", "दहाई", "सैकड़ा", "हज़ार"),
        carry="हासिल",
        borrow="उधार",
        ask_add=("{a} + {b} कितना होता है?", "{a} + {b} की गणना करो।", "{a} और {b} को जोड़ो।"),
        ask_subtract=(
            "{a} - {b} कितना होता है?",
            "{a} - {b} की गणना करो।",
            "{a} में से {b} घटाओ।",
        ),
        ask_multiply=(
            "{a} × {b} कितना होता है?",
            "{a} × {b} की गणना करो।",
            "{a} को {b} से गुणा करो।",
        ),
        ask_compare=("{a} और {b} में से कौन सी संख्या बड़ी है?", "{a} और {b} की तुलना करो।"),
        ask_shop=(
            "दुकान में {a} {things} हैं। {b} और आए और {c} बिक गए। कितने बचे?",
            "मेरे पास {a} {things} हैं, मैंने {b} और खरीदे और {c} दे दिए। अब कितने हैं?",
        ),
        ask_boxes=("{n} डिब्बे हैं, हर डिब्बे में {a} {things} हैं, और {b} {things} अलग हैं। कुल कितने हैं?",),
        things=("सेब", "आम", "पेन"),
        add_open="मैं {a} और {b} को दाईं ओर से अंक दर अंक जोड़ता हूँ।",
        subtract_open="मैं {a} में से {b} को दाईं ओर से अंक दर अंक घटाता हूँ।",
        multiply_open="मैं {a} को {b} से दाईं ओर से अंक दर अंक गुणा करता हूँ।",
        compare_open="मैं {a} और {b} की तुलना करता हूँ, पहले लंबाई, फिर बाईं ओर से अंक।",
        digits="अंक",
        shop_open="पहले मैं कुल निकालता हूँ, फिर जो बचा।",
        boxes_open="पहले मैं डिब्बों का कुल निकालता हूँ, फिर बाकी जोड़ता हूँ।",
        conclude="तो {a} {op} {b} = {r}।",
        larger="तो {r} बड़ी है।",
        equal="तो दोनों बराबर हैं।",
        answer="{a} {op} {b} का परिणाम **{r}** है।",
        answer_larger="बड़ी संख्या **{r}** है।",
        answer_equal="दोनों संख्याएँ बराबर हैं: **{r}**।",
        answer_left="**{r}** {things} बचे।",
        answer_total="कुल **{r}** {things} हैं।",
        greetings=("नमस्ते", "नमस्ते!", "नमस्कार", "तुम कौन हो?", "तुम क्या कर सकते हो?"),
        greeting_thought="कोई मुझे नमस्ते कहता है या पूछता है कि मैं कौन हूँ। गणना करने को कुछ नहीं है, "
        "तो मैं कम शब्दों में कहता हूँ कि मैं कौन हूँ और क्या कर सकता हूँ।",
        introduction="नमस्ते! मैं एक बहुत छोटा मॉडल हूँ जो अपना तर्क दिखाता है। मैं जोड़, घटाव, एक अंक से "
        "गुणा और संख्याओं की तुलना कर सकता हूँ। मुझसे पूछो: *47 + 85 कितना होता है?*",
    ),
    "ja": Phrases(
        places=("一の位", "十の位", "百の位", "千の位"),
        carry="繰り上がり",
        borrow="繰り下がり",
        ask_add=(
            "{a} + {b} はいくつですか？",
            "{a} + {b} を計算してください。",
            "{a} に {b} を足すと？",
        ),
        ask_subtract=(
            "{a} - {b} はいくつですか？",
            "{a} - {b} を計算してください。",
            "{a} から {b} を引くと？",
        ),
        ask_multiply=(
            "{a} × {b} はいくつですか？",
            "{a} × {b} を計算してください。",
            "{a} に {b} をかけると？",
        ),
        ask_compare=("{a} と {b} ではどちらが大きいですか？", "{a} と {b} を比べてください。"),
        ask_shop=(
            "店に{things}が {a} あります。{b} 届いて {c} 売れました。残りはいくつですか？",
            "{things}を {a} 持っています。{b} 買って {c} あげました。今いくつですか？",
        ),
        ask_boxes=(
            "箱が {n} あり、それぞれに{things}が {a} 入っています。ほかに {b} あります。"
            "全部でいくつですか？",
        ),
        things=("りんご", "本", "ペン"),
        add_open="{a} と {b} を右から一桁ずつ足します。",
        subtract_open="{a} から {b} を右から一桁ずつ引きます。",
        multiply_open="{a} に {b} を右から一桁ずつかけます。",
        compare_open="{a} と {b} を比べます。まず長さ、次に左から各桁を見ます。",
        digits="桁数",
        shop_open="まず合計を求め、次に残りを求めます。",
        boxes_open="まず箱の中の数を求め、次に残りを足します。",
        conclude="よって {a} {op} {b} = {r}。",
        larger="よって {r} の方が大きい。",
        equal="よって二つは等しい。",
        answer="{a} {op} {b} の答えは **{r}** です。",
        answer_larger="大きい方は **{r}** です。",
        answer_equal="二つの数は等しいです：**{r}**。",
        answer_left="{things}の残りは **{r}** です。",
        answer_total="{things}は全部で **{r}** です。",
        greetings=(
            "こんにちは",
            "こんにちは！",
            "はじめまして",
            "あなたは誰ですか？",
            "何ができますか？",
        ),
        greeting_thought="あいさつか、私が誰かという質問です。計算するものはないので、"
        "私が誰で何ができるかを短く伝えて、質問を待ちます。",
        introduction="こんにちは！私は考え方を見せるとても小さなモデルです。足し算、引き算、一桁のかけ算、"
        "数の比較ができます。聞いてください：*47 + 85 はいくつですか？*",
    ),
}
